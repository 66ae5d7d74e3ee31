"""Neural codecs of transformers: the bitrate of their codes, and their decoded audio.

Codes are packed at fixed width, since transformers has no entropy coder for them. The recogniser
reads the decoded audio, not the codes. Without a checkpoint, random weights of the same sizes
measure bitrate and time, but give no text.
"""

import inspect
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.models.auto.feature_extraction_auto import (  # type: ignore[attr-defined]
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    feature_extractor_class_from_name,
)

from vqasr.audio.resampling import match_length, resample
from vqasr.codec.quantizer import bits_per_code
from vqasr.entropy.packing import pack_codes
from vqasr.errors import VqasrError
from vqasr.evaluation.classical import UnavailableError
from vqasr.grid import SAMPLING_RATE_HZ

PREFIX = "hf:"
RANDOM = "random:"


class NeuralCodec:
    """Encode with EnCodec, DAC, Mimi, X-Codec2 or another codec of transformers.

    Args:
        name: "hf:CHECKPOINT@BPS" as in hf:facebook/encodec_24khz@1500, or "hf:CHECKPOINT" for all
            codebooks. A checkpoint is a hub id or a folder. "random:TYPE@BPS" as in
            random:mimi@1100 has random weights and transformers' default sizes for that model
            type; TYPE may also be a folder with a config.json.

    Raises:
        UnavailableError: the checkpoint cannot be loaded.
        VqasrError: the model is not a codec with codes, or has no such rate.
    """

    def __init__(self, name: str):
        checkpoint, _, bps = name.removeprefix(PREFIX).removeprefix(RANDOM).partition("@")
        load = _randomise if name.startswith(RANDOM) else _load
        self._model, self._extractor = load(checkpoint)
        config: Any = self._model.config
        if not hasattr(self._model, "encode") or not _codebook_size(config):
            raise VqasrError(
                f"{checkpoint}: a {type(self._model).__name__} is not a codec with codes. Use a "
                "checkpoint such as facebook/encodec_24khz, kyutai/mimi or descript/dac_16khz."
            )
        self._rate_hz = int(config.sampling_rate)
        self._bits = bits_per_code(_codebook_size(config))
        codes = self._encode(np.zeros(self._rate_hz, np.float32))
        frame_rate = getattr(config, "frame_rate", None)
        if not frame_rate and getattr(config, "hop_length", None):
            frame_rate = self._rate_hz / config.hop_length
        # Without either, the frames of one second of audio: padding matters little there.
        self._each_bps = each_bps = self._bits * float(frame_rate or codes.shape[1])
        self._num_quantizers = len(codes)
        if bps:
            n = round(float(bps) / each_bps) if bps.replace(".", "", 1).isdecimal() else 0
            if not 1 <= n <= len(codes) or abs(n * each_bps - float(bps)) > 0.1 * each_bps:
                allowed = ", ".join(f"{n * each_bps:g}" for n in range(1, len(codes) + 1))
                raise VqasrError(f"{name!r}: {checkpoint} has no such rate. Use one of {allowed}.")
            self._num_quantizers = n

    def __call__(self, samples: np.ndarray) -> tuple[int, np.ndarray]:
        """Return bytes of the codes and decoded samples of (samples,) float32 at 16 kHz."""
        audio = resample(samples, SAMPLING_RATE_HZ, self._rate_hz)
        codes = self._encode(audio, self._num_quantizers)
        decoded = resample(self._decode(codes), self._rate_hz, SAMPLING_RATE_HZ)
        return len(pack_codes(codes, self._bits)), match_length(decoded, len(samples))

    @torch.inference_mode()
    def _encode(self, audio: np.ndarray, num_quantizers: int | None = None) -> np.ndarray:
        """Return (num_quantizers, frames) codes; None uses all codebooks."""
        inputs = self._extractor(audio, sampling_rate=self._rate_hz, return_tensors="pt")
        accepted = inspect.signature(self._model.encode).parameters
        arguments = {key: value for key, value in inputs.items() if key in accepted}
        for name in {"num_quantizers", "n_quantizers"} & set(accepted):  # Mimi, DAC
            arguments[name] = num_quantizers
        if "bandwidth" in accepted:  # EnCodec
            arguments["bandwidth"] = self._bandwidth(num_quantizers)
        codes = self._model.encode(**arguments).audio_codes
        # EnCodec puts its chunks in front: (chunks, batch, codebooks, frames).
        if codes[..., 0, 0].numel() != 1:
            raise VqasrError(
                f"{self._model.name_or_path}: codecs that cut audio into chunks or code several "
                "channels cannot be compared. Use a mono codec such as encodec_24khz."
            )
        return codes.reshape(*codes.shape[-2:]).numpy()[:num_quantizers]

    def _bandwidth(self, num_quantizers: int | None) -> float:
        """Return the lowest of EnCodec's rates, in kbit/s, with that number of codebooks."""
        allowed = sorted(self._model.config.target_bandwidths)
        if num_quantizers is None:
            return float(allowed[-1])
        target = num_quantizers * self._each_bps / 1000
        return float(next((rate for rate in allowed if rate >= target - 1e-6), allowed[-1]))

    @torch.inference_mode()
    def _decode(self, codes: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(codes)[None]
        if "audio_scales" in inspect.signature(self._model.decode).parameters:  # EnCodec
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
            f"{PREFIX}{checkpoint}: cannot be loaded ({str(error).splitlines()[0]})."
        ) from error
    return model, extractor


@lru_cache(maxsize=2)
def _randomise(name: str) -> tuple[Any, Any]:
    try:
        is_folder = Path(name).is_dir()
        config = AutoConfig.from_pretrained(name) if is_folder else AutoConfig.for_model(name)
        kind = feature_extractor_class_from_name(FEATURE_EXTRACTOR_MAPPING_NAMES[config.model_type])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModel.from_config(config).eval()
        names = {"sampling_rate", "hop_length"} & set(inspect.signature(kind).parameters)
        extractor = kind(**{k: getattr(config, k) for k in names if hasattr(config, k)})
    except (AttributeError, KeyError, OSError, ValueError) as error:
        raise VqasrError(
            f"{RANDOM}{name}: transformers has no such codec ({error}). Give a model type, as in "
            "random:encodec@1500, random:mimi@1100, random:dac or random:xcodec2."
        ) from error
    return model, extractor


def _codebook_size(config: Any) -> int:
    """Return the codebook size; 0 without a codebook."""
    levels = getattr(config, "quantization_levels", None)  # X-Codec2: finite scalar quantization
    return math.prod(levels) if levels else getattr(config, "codebook_size", 0)
