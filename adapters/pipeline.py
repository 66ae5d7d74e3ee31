"""`pipeline("automatic-speech-recognition", pipeline_class=CodesPipeline)`.

transformers' own pipeline reads files with the ffmpeg program, cuts chunks out of the waveform and
pads spectrograms. Here a recording is encoded once, and chunks are cut out of its codes.
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
from vqasr.grid import FRAME_RATE_HZ, HOP_LENGTH, MEL_FRAMES_PER_FRAME


class CodesPipeline(AutomaticSpeechRecognitionPipeline):
    """Speech recognition from codes; a drop-in for transformers' pipeline.

    Inputs are what `CodesFeatureExtractor.codes` reads: arrays, dictionaries, audio files, `.vqs`
    streams. Everything else (batch_size, chunk_length_s, return_timestamps, generate_kwargs) is as
    in transformers. The model is a `VQWhisperForConditionalGeneration` or a `VQWav2Vec2ForCTC`, the
    feature extractor a
    `CodesFeatureExtractor`.
    """

    feature_extractor: CodesFeatureExtractor

    def __init__(self, *args: Any, **kwargs: Any):
        """As transformers'.

        Raises:
            CodecMismatchError: the model reads another codec's codes than the feature extractor's.
        """
        super().__init__(*args, **kwargs)
        if isinstance(self.model.config, VQWhisperConfig):
            self.type = "seq2seq_whisper"
        read = bytes.fromhex(getattr(self.model.config, "codec_fingerprint", ""))
        written = self.feature_extractor.model().fingerprint() if read else b""
        if read != written:
            raise CodecMismatchError(
                f"the model reads codes of codec {read.hex()}, the feature extractor makes "
                f"those of {written.hex()} ({self.feature_extractor.codec}). Name the codec "
                "that the model was trained for."
            )

    def preprocess(  # type: ignore[override]
        self,
        inputs: Any,
        chunk_length_s: float = 0,
        stride_length_s: float | tuple[float, float] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield chunks of codes: input_values (1, frames, n) and attention_mask (1, frames).

        Raises:
            VqasrError: the strides leave nothing of a chunk; see also `CodesFeatureExtractor`.
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
                f"{stride_length_s[1]:g} s leaves nothing between them. Use longer chunks."
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
            mask = model_inputs["attention_mask"].repeat_interleave(MEL_FRAMES_PER_FRAME, dim=1)
            features = to_features(model_inputs.pop("input_values").transpose(1, 2))
            model_inputs["input_features"] = features
            # Of short clips Whisper wants no mask; of long ones it is where each of them ends.
            model_inputs["attention_mask"] = F.pad(mask, (0, features.shape[-1] - mask.shape[1]))
        return super()._forward(model_inputs, **kwargs)

    def postprocess(self, model_outputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As transformers', without chunks that hold no text, and no times beyond the end.

        Where Whisper begins a segment at the end of its window and says nothing in it, transformers
        makes a chunk of its start and the next window's, which is earlier. And behind the last
        frame Whisper hears silence, into which a segment may reach.
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
