"""Baseline without training: k-means tokens of Whisper's encoder states.

Each state (50 Hz) is sent as the index of its nearest centre, and Whisper's decoder reads the
centres. The sender has to run the whole encoder.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.codec.nearest import kmeans, nearest
from vqasr.codec.quantizer import bits_per_code
from vqasr.entropy.packing import pack_codes
from vqasr.errors import RecogniserError
from vqasr.grid import SAMPLING_RATE_HZ, WINDOW_SAMPLES, frames_of

STATE_SAMPLES = 320
FITTED_STATES = 25  # per centre; more change little


class KMeansTokens:
    """Centres of a Whisper's encoder states.

    Args:
        recogniser: the Whisper.
        centres: (size, d_model) float32.
    """

    def __init__(self, recogniser: OriginalWhisper, centres: Tensor):
        self.recogniser = recogniser
        self.centres = centres

    @classmethod
    @torch.inference_mode()
    def fit(
        cls, recogniser: OriginalWhisper, clips: list[np.ndarray], size: int, seed: int = 0
    ) -> "KMeansTokens":
        """Compute centres from (samples,) float32 clips at 16 kHz.

        Raises:
            RecogniserError: there are fewer states than centres.
        """
        states = [_states(recogniser, clip[:WINDOW_SAMPLES]) for clip in clips]
        frames = torch.cat(states) if states else torch.zeros(0, 1)
        if len(frames) < size:
            raise RecogniserError(
                f"{len(frames)} states of speech are too few for {size} centres. Give at least "
                f"{size * STATE_SAMPLES / SAMPLING_RATE_HZ:.0f} s of audio."
            )
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(frames), generator=generator)[: FITTED_STATES * size]
        return cls(recogniser, kmeans(frames[chosen], size, generator))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file."""
        metadata = {"whisper": self.recogniser.fingerprint().hex()}
        save_file({"centres": self.centres.contiguous()}, path, metadata=metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], recogniser: OriginalWhisper) -> "KMeansTokens":
        """Read a file that `save` wrote.

        Raises:
            RecogniserError: the file cannot be read, or was fitted to another Whisper.
        """
        try:
            with safe_open(Path(path), "pt") as file:
                centres, metadata = file.get_tensor("centres"), file.metadata()
        except Exception as error:  # safetensors and the system each raise their own
            raise RecogniserError(
                f"{path}: no centres can be read ({error}). Make such a file with "
                "recipes/wer_vs_bitrate/fit_kmeans.py."
            ) from error
        if (metadata or {}).get("whisper") != recogniser.fingerprint().hex():
            raise RecogniserError(
                f"{path}: fitted to another recogniser than {recogniser.name}. Fit centres to it "
                "with recipes/wer_vs_bitrate/fit_kmeans.py."
            )
        return cls(recogniser, centres)

    @torch.inference_mode()
    def transcribe(self, clips: list[np.ndarray]) -> tuple[list[str], list[int], float, float]:
        """Transcribe (samples,) float32 clips at 16 kHz.

        Returns:
            Texts, bytes of each clip's codes, seconds in Whisper's encoder, seconds elsewhere.
        """
        started = time.perf_counter()
        marks: list[float] = []

        def quantize(module: Any, inputs: Any, output: Any) -> Any:
            states = output.last_hidden_state
            codes = nearest(states.flatten(0, 1), self.centres)
            output.last_hidden_state = self.centres[codes].view(states.shape)
            marks.append(time.perf_counter())
            return output

        encoder = self.recogniser.model.model.encoder
        hooks = [
            encoder.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter())),
            encoder.register_forward_hook(quantize),
        ]
        try:
            texts = self.recogniser.transcribe_audio(clips)
        finally:
            for hook in hooks:
                hook.remove()
        encode_s = sum(marks[1::2]) - sum(marks[::2])
        bits = bits_per_code(len(self.centres))
        codes = [np.zeros((1, frames_of(len(clip), STATE_SAMPLES)), np.int64) for clip in clips]
        sizes = [len(pack_codes(c, bits)) for c in codes]  # of fixed width, so any code will do
        return texts, sizes, encode_s, time.perf_counter() - started - encode_s


def _states(recogniser: OriginalWhisper, clip: np.ndarray) -> Tensor:
    """Return the encoder states of a clip, (states, d_model), without padding."""
    features = recogniser.feature_extractor(
        clip, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
    ).input_features
    states = recogniser.model.model.encoder(features).last_hidden_state[0]
    return states[: frames_of(len(clip), STATE_SAMPLES)].clone()
