"""Feature extractor that turns audio or streams into codes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor

from vqasr.audio.sources import Sound, load_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import check_codec, encode_audio
from vqasr.compression.rates import operating_point
from vqasr.errors import AudioError
from vqasr.files import read_file
from vqasr.grid import NO_FRAME, SAMPLING_RATE_HZ, WINDOW_S, WINDOW_SAMPLES
from vqasr.stream.header import is_stream
from vqasr.stream.stream import Stream


class CodesFeatureExtractor(SequenceFeatureExtractor):
    """Makes codes of whatever holds speech.

    Args:
        codec: name or folder of the codec; it is loaded when there is audio to encode.
        num_quantizers: codebooks to use; None for all.
        bps: instead, about so many bits per second, of codecs with measured rates.
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
        # What transformers' pipeline asks of Whisper's feature extractor.
        self.chunk_length = WINDOW_S
        self.n_samples = WINDOW_SAMPLES
        self._model: VQCodecModel | None = None

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_dict().items() if k != "_model"}

    def model(self) -> VQCodecModel:
        """The codec."""
        if self._model is None:
            self._model = VQCodecModel.from_pretrained(self.codec).eval()
        return self._model

    def codes(self, sound: Sound | Stream) -> np.ndarray:
        """Codes (n, frames) int64 of one recording.

        Args:
            sound: (samples,) float at 16 kHz; a dictionary with sampling_rate and raw or array;
                path or bytes of an audio file or of a `.vqs` stream; or a `Stream`.

        Raises:
            AudioError, StreamError: it cannot be read.
            CodecMismatchError: the stream was written by another codec.
            InvalidCodesError: the stream holds fewer codebooks than num_quantizers.
        """
        if isinstance(sound, str | os.PathLike):
            sound = read_file(Path(sound))
        if isinstance(sound, bytes) and is_stream(sound):
            sound = Stream.load(sound)
        if isinstance(sound, Stream):
            check_codec(sound, self.model().fingerprint())
            return sound.trim(self.num_quantizers or len(sound.codes)).codes
        codec = self.model()
        point = operating_point(codec.config, num_quantizers=self.num_quantizers, bps=self.bps)
        return encode_audio(codec, load_audio(sound), point.num_quantizers, point.bit_price)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        **ignored: Any,
    ) -> BatchFeature:
        """Codes of one or several recordings.

        Args:
            raw_speech: each as `codes` takes them.
            sampling_rate: of arrays; 16,000 or None.
            ignored: what transformers passes to every feature extractor (return_tensors, padding).

        Returns:
            input_values (batch, longest, n) int64, -1 behind the end of shorter ones, and
            attention_mask (batch, longest) int64.

        Raises:
            AudioError: another sampling rate; see also `codes`.
        """
        if sampling_rate not in (None, SAMPLING_RATE_HZ):
            raise AudioError(
                f"sampling_rate={sampling_rate}: arrays must be at 16,000 Hz. Pass "
                '{"raw": samples, "sampling_rate": rate} to have them resampled.'
            )
        sounds = raw_speech if isinstance(raw_speech, list) else [raw_speech]
        items = [torch.from_numpy(self.codes(sound)).long().T for sound in sounds]
        values = torch.nn.utils.rnn.pad_sequence(items, True, NO_FRAME)
        mask = torch.tensor([[i < len(x) for i in range(values.shape[1])] for x in items])
        return BatchFeature({"input_values": values, "attention_mask": mask.long()})
