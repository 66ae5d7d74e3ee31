"""Turn audio or streams into codes, as a feature extractor of transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, SequenceFeatureExtractor

from vqasr.audio.sources import Sound, as_clips, load_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import encode_audio
from vqasr.compression.rates import operating_point
from vqasr.errors import AudioError
from vqasr.grid import NO_FRAME, SAMPLING_RATE_HZ, WINDOW_S, WINDOW_SAMPLES
from vqasr.stream.stream import Stream, stream_bytes


class CodesFeatureExtractor(SequenceFeatureExtractor):
    """Turn audio or streams into codes.

    Args:
        codec: name or folder of the codec, loaded at the first use.
        num_quantizers: number of codebooks; None for all.
        bps: target bits per second instead, for codecs with calibrated rates.
    """

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 as in transformers

    def __init__(
        self,
        codec: str = "vqasr-base",
        num_quantizers: int | None = None,
        bps: float | None = None,
        **kwargs: Any,
    ):
        for name in ("feature_size", "sampling_rate", "padding_value", "chunk_length", "n_samples"):
            kwargs.pop(name, None)
        super().__init__(1, SAMPLING_RATE_HZ, float(NO_FRAME), **kwargs)
        self.codec = codec
        self.num_quantizers = num_quantizers
        self.bps = bps
        # transformers' pipeline reads these of Whisper's feature extractor.
        self.chunk_length = WINDOW_S
        self.n_samples = WINDOW_SAMPLES
        self._model: VQCodecModel | None = None

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_dict().items() if k != "_model"}

    def model(self) -> VQCodecModel:
        """Return the codec."""
        if self._model is None:
            self._model = VQCodecModel.from_pretrained(self.codec).eval()
        return self._model

    def codes(self, sound: Sound | Stream) -> np.ndarray:
        """Return codes (n, frames) int64 of one recording.

        Args:
            sound: a `Stream`; path or bytes of a `.vqs` stream; or audio, as `load_audio` takes it.

        Raises:
            AudioError, StreamError: it cannot be read.
            CodecMismatchError: the stream was written by another codec.
            InvalidCodesError: the stream holds fewer codebooks than num_quantizers.
        """
        if (data := stream_bytes(sound)) is not None:
            sound = Stream.load(data)
        codec = self.model()
        if isinstance(sound, Stream):
            sound.header.check_codec(codec.fingerprint())
            return sound.trim(self.num_quantizers or len(sound.codes)).codes
        point = operating_point(codec.config, num_quantizers=self.num_quantizers, bps=self.bps)
        return encode_audio(codec, load_audio(sound), point.num_quantizers, point.bit_price)

    def __call__(
        self, raw_speech: Any, sampling_rate: int | None = None, **ignored: Any
    ) -> BatchFeature:
        """Return padded codes of one recording, or of a list of recordings.

        Args:
            raw_speech: each as `codes` takes it.
            sampling_rate: of arrays in Hz; 16,000 or None.
            ignored: arguments that transformers passes to every feature extractor.

        Returns:
            input_values (batch, longest, n) int64, padded with -1, and attention_mask
            (batch, longest) int64.

        Raises:
            AudioError: another sampling rate; see also `codes`.
        """
        if sampling_rate not in (None, SAMPLING_RATE_HZ):
            raise AudioError(
                f"sampling_rate={sampling_rate}: arrays must be at 16,000 Hz. Pass "
                '{"raw": samples, "sampling_rate": rate} to have them resampled.'
            )
        return _padded(
            [torch.from_numpy(self.codes(sound)).long().T for sound in as_clips(raw_speech)]
        )

    def pad(self, processed_features: Any, padding: Any = True, **ignored: Any) -> BatchFeature:  # type: ignore[override]
        """Pad codes to the longest, as collators of transformers do.

        Args:
            processed_features: {"input_values": [...]} or a list of {"input_values": codes}, each
                (frames, n) int.
            padding, ignored: as other feature extractors take them; codes are padded to the longest
                and returned as tensors in any case.

        Returns:
            As `__call__`.
        """
        if isinstance(processed_features, Mapping):
            items = processed_features["input_values"]
        else:
            items = [item["input_values"] for item in processed_features]
        return _padded([torch.as_tensor(np.asarray(codes)).long() for codes in items])


def _padded(items: list[Tensor]) -> BatchFeature:
    codes = pad_sequence(items, batch_first=True, padding_value=NO_FRAME)
    mask = (codes[..., 0] != NO_FRAME).long()
    return BatchFeature({"input_values": codes, "attention_mask": mask})
