"""Neural codecs from transformers, by checkpoint: what their codes cost and how they sound.

Their codes are packed with as many bits each as their codebooks need; none of them has an entropy
coder in transformers. Only the recogniser hears what is decoded: nothing reads their codes. Without
a checkpoint there are random weights of the same sizes, which take as long and say nothing.
"""

import inspect
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    feature_extractor_class_from_name,
)

from vqasr.audio.files import as_long_as, resample
from vqasr.entropy.packing import pack_codes
from vqasr.errors import VqasrError
from vqasr.evaluation.classical import UnavailableError
from vqasr.grid import SAMPLING_RATE_HZ

PREFIX = "hf:"
RANDOM = "random:"


class NeuralCodec:
    """EnCodec, DAC, Mimi, X-Codec2 or another codec of transformers.

    Args:
        name: "hf:CHECKPOINT@BPS" as in hf:facebook/encodec_24khz@1500, or "hf:CHECKPOINT" for all
            of its codebooks. A checkpoint is a hub id or a folder. "random:TYPE@BPS" as in
            random:mimi@1100 has random weights and the sizes that transformers gives that type of
            model, or those of the config.json in a folder.

    Raises:
        UnavailableError: the checkpoint cannot be loaded here.
        VqasrError: it is no codec with codes, or has no such rate.
    """

    def __init__(self, name: str):
        checkpoint, _, bps = name.removeprefix(PREFIX).removeprefix(RANDOM).partition("@")
        load = _invent if name.startswith(RANDOM) else _load
        self._model, self._extractor = load(checkpoint)
        config: Any = self._model.config
        self._rate_hz = int(config.sampling_rate)
        codes = self._encode(np.zeros(self._rate_hz, np.float32))
        self._bits = math.ceil(math.log2(_codebook_size(config)))
        # The nominal rate of a codebook; of one second, which no padding distorts much.
        self._each_bps = each_bps = self._bits * self._frame_rate(codes.shape[1])
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
        codes = self._encode(sound, self._num_quantizers)
        data = pack_codes(codes, self._bits)
        heard = resample(self._decode(codes), self._rate_hz, SAMPLING_RATE_HZ)
        return len(data), as_long_as(samples, heard)

    def _frame_rate(self, frames_of_a_second: int) -> float:
        config = self._model.config
        if stated := getattr(config, "frame_rate", None):
            return float(stated)
        hop_length = getattr(config, "hop_length", None)
        return self._rate_hz / hop_length if hop_length else float(frames_of_a_second)

    @torch.inference_mode()
    def _encode(self, sound: np.ndarray, num_quantizers: int | None = None) -> np.ndarray:
        """(num_quantizers, frames) codes; of all codebooks where no number is given."""
        inputs = self._extractor(sound, sampling_rate=self._rate_hz, return_tensors="pt")
        known = inspect.signature(self._model.encode).parameters
        arguments = {key: value for key, value in inputs.items() if key in known}
        for name in {"num_quantizers", "n_quantizers"} & set(known):  # Mimi, DAC
            arguments[name] = num_quantizers
        if "bandwidth" in known:
            arguments["bandwidth"] = self._bandwidth(num_quantizers)
        codes = self._model.encode(**arguments).audio_codes
        # EnCodec puts its chunks in front: (chunks, batch, codebooks, frames).
        if codes[..., 0, 0].numel() != 1:
            raise VqasrError(
                f"{self._model.name_or_path}: a codec that cuts audio into chunks or codes several "
                "channels cannot be compared. Use one for mono audio, as encodec_24khz."
            )
        return codes.reshape(*codes.shape[-2:]).numpy()[:num_quantizers]

    def _bandwidth(self, num_quantizers: int | None) -> float:
        """The lowest of EnCodec's rates, in kbit/s, that has so many codebooks."""
        allowed = sorted(self._model.config.target_bandwidths)
        if num_quantizers is None:
            return float(allowed[-1])
        wanted = num_quantizers * self._each_bps / 1000
        return float(next((rate for rate in allowed if rate >= wanted - 1e-6), allowed[-1]))

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
    return _checked(model, checkpoint), extractor


@lru_cache(maxsize=2)
def _invent(name: str) -> tuple[Any, Any]:
    try:
        is_folder = Path(name).is_dir()
        config = AutoConfig.from_pretrained(name) if is_folder else AutoConfig.for_model(name)
        kind = feature_extractor_class_from_name(FEATURE_EXTRACTOR_MAPPING_NAMES[config.model_type])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModel.from_config(config).eval()
        known = {"sampling_rate", "hop_length"} & set(inspect.signature(kind).parameters)
        extractor = kind(**{k: getattr(config, k) for k in known if hasattr(config, k)})
    except (AttributeError, KeyError, OSError, ValueError) as error:
        raise VqasrError(
            f"{RANDOM}{name}: transformers has no such codec ({error}). Name a type of model, as "
            "in random:encodec@1500, random:mimi@1100, random:dac or random:xcodec2."
        ) from error
    return _checked(model, name), extractor


def _checked(model: Any, name: str) -> Any:
    if not hasattr(model, "encode") or not _codebook_size(model.config):
        raise VqasrError(
            f"{name}: a {type(model).__name__} is no codec with codes; facebook/encodec_24khz, "
            "kyutai/mimi or descript/dac_16khz are."
        )
    return model


def _codebook_size(config: Any) -> int:
    """0 where there is no codebook."""
    levels = getattr(config, "quantization_levels", None)  # X-Codec2: scalars, taken together
    return math.prod(levels) if levels else getattr(config, "codebook_size", 0)
