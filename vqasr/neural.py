"""Neural codecs from transformers, by checkpoint: what their codes cost and how they sound.

Their codes are packed with as many bits each as their codebooks need; none of them has an entropy
coder in transformers. Only the recogniser hears what is decoded: nothing reads their codes.
"""

import inspect
import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

from vqasr.audio import as_long_as, resample
from vqasr.bitpack import pack_codes
from vqasr.classical import UnavailableError
from vqasr.errors import VqasrError
from vqasr.mel import SAMPLING_RATE_HZ

PREFIX = "hf:"


class NeuralCodec:
    """EnCodec, DAC, Mimi or another codec of transformers whose codes are residual.

    Args:
        name: "hf:CHECKPOINT@BPS" as in hf:facebook/encodec_24khz@1500, or "hf:CHECKPOINT" for all
            of its codebooks. A checkpoint is a hub id or a folder.

    Raises:
        UnavailableError: the checkpoint cannot be loaded here.
        VqasrError: it is no codec with codes, or has no such rate.
    """

    def __init__(self, name: str):
        checkpoint, _, bps = name.removeprefix(PREFIX).partition("@")
        self._model, self._extractor = _load(checkpoint)
        config: Any = self._model.config
        self._rate_hz = int(config.sampling_rate)
        codes = self._encode(np.zeros(self._rate_hz, np.float32))
        self._bits = math.ceil(math.log2(config.codebook_size))
        # The nominal rate of a codebook; of one second, which no padding distorts much.
        each_bps = self._bits * self._frame_rate(codes.shape[1])
        self._num_quantizers = len(codes)
        if bps:
            n = round(float(bps) / each_bps) if bps.replace(".", "", 1).isdigit() else 0
            if not 1 <= n <= len(codes) or abs(n * each_bps - float(bps)) > 0.1 * each_bps:
                allowed = ", ".join(f"{n * each_bps:g}" for n in range(1, len(codes) + 1))
                raise VqasrError(f"{name!r}: {checkpoint} has no such rate; there are {allowed}.")
            self._num_quantizers = n

    def __call__(self, samples: np.ndarray) -> tuple[int, np.ndarray]:
        """(samples,) float32 at 16 kHz -> bytes of its codes, and what is heard of them."""
        sound = resample(samples, SAMPLING_RATE_HZ, self._rate_hz)
        codes = self._encode(sound)[: self._num_quantizers]
        data = pack_codes(codes, self._bits)
        heard = resample(self._decode(codes), self._rate_hz, SAMPLING_RATE_HZ)
        return len(data), as_long_as(samples, heard)

    def _frame_rate(self, frames_of_a_second: int) -> float:
        stated = getattr(self._model.config, "frame_rate", None)
        return float(stated or frames_of_a_second)

    @torch.inference_mode()
    def _encode(self, sound: np.ndarray) -> np.ndarray:
        """(num_quantizers, frames) codes of all codebooks."""
        inputs = self._extractor(sound, sampling_rate=self._rate_hz, return_tensors="pt")
        known = inspect.signature(self._model.encode).parameters
        arguments = {key: value for key, value in inputs.items() if key in known}
        if "bandwidth" in known:
            arguments["bandwidth"] = max(self._model.config.target_bandwidths)
        codes = self._model.encode(**arguments).audio_codes
        # EnCodec puts its chunks in front: (chunks, batch, codebooks, frames).
        if codes[..., 0, 0].numel() != 1:
            raise VqasrError(
                f"{self._model.name_or_path}: a codec that cuts audio into chunks or codes several "
                "channels cannot be compared. Use one for mono audio, as encodec_24khz."
            )
        return codes.reshape(*codes.shape[-2:]).numpy()

    @torch.inference_mode()
    def _decode(self, codes: np.ndarray) -> np.ndarray:
        known = inspect.signature(self._model.decode).parameters
        batch = torch.from_numpy(codes)[None]
        if "audio_scales" in known:  # EnCodec
            audio = self._model.decode(batch[None], [None]).audio_values
        else:
            audio = self._model.decode(audio_codes=batch).audio_values
        return audio.reshape(-1).numpy()


@lru_cache(maxsize=2)
def _load(checkpoint: str) -> tuple[Any, Any]:
    try:
        model = AutoModel.from_pretrained(checkpoint).eval()
        extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    except Exception as error:  # the hub, safetensors and torch each raise their own
        raise UnavailableError(
            f"{PREFIX}{checkpoint}: cannot be loaded here ({str(error).splitlines()[0]})."
        ) from error
    if not hasattr(model, "encode") or not hasattr(model.config, "codebook_size"):
        raise VqasrError(
            f"{PREFIX}{checkpoint}: a {type(model).__name__} is no codec with codes; "
            "facebook/encodec_24khz, kyutai/mimi or descript/dac_16khz are."
        )
    return model, extractor
