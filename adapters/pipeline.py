"""Run `pipeline("automatic-speech-recognition", pipeline_class=CodesPipeline)` on codes.

transformers' own pipeline reads files with the ffmpeg program, cuts the waveform into chunks and
pads spectrograms. This one encodes a recording once, and cuts its codes into chunks.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutomaticSpeechRecognitionPipeline

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.whisper import VQWhisperConfig, to_features
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.grid import FRAME_RATE_HZ, HOP_LENGTH, HOPS_PER_FRAME, WINDOW_FRAMES


class CodesPipeline(AutomaticSpeechRecognitionPipeline):
    """Recognise speech from codes, as a drop-in for transformers' pipeline.

    Inputs are arrays, dictionaries, audio files or `.vqs` streams, see `CodesFeatureExtractor`.
    Recordings of any length need no other argument. The others (batch_size, chunk_length_s,
    return_timestamps, generate_kwargs) are those of transformers. The model is a
    `VQWhisperForConditionalGeneration` or a `VQWav2Vec2ForCTC`, the feature extractor a
    `CodesFeatureExtractor`.
    """

    feature_extractor: CodesFeatureExtractor

    def __init__(self, *args: Any, **kwargs: Any):
        """Check model and feature extractor, with the arguments of transformers' pipeline.

        Raises:
            CodecMismatchError: the model reads codes of another codec than the feature extractor's.
        """
        super().__init__(*args, **kwargs)
        if isinstance(self.model.config, VQWhisperConfig):
            self.type = "seq2seq_whisper"
        expected = getattr(self.model.config, "codec_fingerprint", "")
        actual = self.feature_extractor.model().fingerprint().hex() if expected else ""
        if actual != expected:
            raise CodecMismatchError(
                f"the model reads codes of codec {expected}, the feature extractor uses codec "
                f"{actual} ({self.feature_extractor.codec}). Use the codec that the model was "
                "trained for."
            )

    def preprocess(  # type: ignore[override]
        self,
        inputs: Any,
        chunk_length_s: float = 0,
        stride_length_s: float | tuple[float, float] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield chunks of codes: input_values (1, frames, n) and attention_mask (1, frames).

        Raises:
            VqasrError: the strides cover a whole chunk; see also `CodesFeatureExtractor`.
        """
        codes = torch.from_numpy(self.feature_extractor.codes(inputs)).long().T
        if not chunk_length_s:
            yield {"is_last": True, **_item(codes)}
            return
        if stride_length_s is None:
            stride_length_s = chunk_length_s / 6
        if isinstance(stride_length_s, int | float):
            stride_length_s = (stride_length_s, stride_length_s)
        length, left, right = (
            round(seconds * FRAME_RATE_HZ) for seconds in (chunk_length_s, *stride_length_s)
        )
        if length <= left + right:
            raise VqasrError(
                f"chunk_length_s={chunk_length_s:g} with strides of {stride_length_s[0]:g} and "
                f"{stride_length_s[1]:g} s leaves nothing between them. Use longer chunks "
                "or shorter strides."
            )
        for start in range(0, max(1, len(codes)), length - left - right):
            chunk = codes[start : start + length]
            is_last = start + length >= len(codes)
            kept = (len(chunk), left if start else 0, 0 if is_last else right)
            stride = tuple(frames * HOP_LENGTH for frames in kept)
            yield {"is_last": is_last, "stride": stride, **_item(chunk)}
            if is_last:
                return

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], **kwargs: Any
    ) -> Any:
        if self.type == "seq2seq_whisper":
            mask = model_inputs["attention_mask"].repeat_interleave(HOPS_PER_FRAME, dim=1)
            features = to_features(model_inputs.pop("input_values").transpose(1, 2))
            model_inputs["input_features"] = features
            if features.shape[-1] > HOPS_PER_FRAME * WINDOW_FRAMES:
                # transformers needs them to read on after a window; the result leaves them out.
                kwargs["return_timestamps"] = kwargs.get("return_timestamps") or True
            # Whisper's sequential algorithm finds the end of each long clip in the mask.
            model_inputs["attention_mask"] = F.pad(mask, (0, features.shape[-1] - mask.shape[1]))
        return super()._forward(model_inputs, **kwargs)

    def postprocess(self, model_outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Join the chunks as transformers does; drop empty ones, and clip times at the end.

        If Whisper begins an empty segment at the end of its window, transformers makes a chunk that
        ends before it starts. And segments may extend into the padding after the last frame.
        """
        frames = 0
        for output in model_outputs:
            _, left, right = output.get("stride", (0, 0, 0))
            frames += output.pop("frames") - (left + right) // HOP_LENGTH
        result: dict[str, Any] = super().postprocess(model_outputs, *args, **kwargs)
        if self.type == "seq2seq_whisper" and "chunks" in result:
            end_s = frames / FRAME_RATE_HZ
            result["chunks"] = [
                chunk | {"timestamp": tuple(t and min(t, end_s) for t in chunk["timestamp"])}
                for chunk in result["chunks"]
                if chunk["text"].strip()
            ]
        return result


def _item(codes: Tensor) -> dict[str, Any]:
    return {
        "frames": len(codes),
        "input_values": codes[None],
        "attention_mask": torch.ones(1, len(codes), dtype=torch.long),
    }
