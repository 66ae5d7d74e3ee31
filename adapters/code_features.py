"""What stands where transformers expects a feature extractor: sound, or a stream, to codes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor

from vqasr.audio.files import check_samples, read_audio, to_mono_16_khz
from vqasr.codec.mel import SAMPLING_RATE_HZ
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression import check_codec, encode_audio
from vqasr.errors import AudioError, InvalidCodesError
from vqasr.files import read_file
from vqasr.stream.content import NO_FRAME
from vqasr.stream.header import is_stream
from vqasr.stream.whole import Stream, stream_from_bytes

Sound = np.ndarray | Tensor | dict[str, Any] | str | os.PathLike[str] | bytes | Stream
CHUNK_S = 30


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
        self.chunk_length = CHUNK_S
        self.n_samples = CHUNK_S * SAMPLING_RATE_HZ
        self._model: VQCodecModel | None = None

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_dict().items() if k != "_model"}

    def model(self) -> VQCodecModel:
        """The codec."""
        if self._model is None:
            self._model = VQCodecModel.from_pretrained(self.codec).eval()
        return self._model

    def codes(self, sound: Sound) -> np.ndarray:
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
        if isinstance(sound, bytes):
            sound = stream_from_bytes(sound) if is_stream(sound) else read_audio(sound)
        if isinstance(sound, Stream):
            check_codec(sound, self.model().fingerprint())
            wanted = self.num_quantizers or len(sound.codes)
            if wanted > len(sound.codes):
                raise InvalidCodesError(
                    f"num_quantizers={wanted}, but the stream holds {len(sound.codes)} codebooks."
                )
            return sound.codes[:wanted]
        codec = self.model()
        n, bit_price = self.num_quantizers, 0.0
        if self.bps is not None:
            n, bit_price = codec.config.operating_point(self.bps)
        return encode_audio(codec, _samples(sound), n, bit_price)

    def __call__(
        self,
        raw_speech: Sound | list[Sound],
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


def _samples(sound: Any) -> np.ndarray:
    if isinstance(sound, dict):
        array = sound.get("raw", sound.get("array"))
        if array is None or "sampling_rate" not in sound:
            raise AudioError(
                f"a dictionary with {sorted(sound)}; sampling_rate and raw (or array) are needed."
            )
        return to_mono_16_khz(_array(array), int(sound["sampling_rate"]))
    samples = _array(sound)
    check_samples(samples)
    return samples.astype(np.float32)


def _array(sound: Any) -> np.ndarray:
    return sound.detach().cpu().numpy() if isinstance(sound, Tensor) else np.asarray(sound)
