"""The baseline that needs no training: k-means on what Whisper's encoder says.

Each state (50 a second) is sent as the number of the nearest centre, and the decoder reads the
centres. Whisper's whole encoder runs at the sender's.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import safe_open, save_file
from torch import Tensor

from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.codec.nearest import kmeans, nearest
from vqasr.codec.quantizer import bits_per_code
from vqasr.entropy.packing import pack_codes
from vqasr.errors import RecogniserError
from vqasr.grid import SAMPLING_RATE_HZ, WINDOW_SAMPLES

STATE_SAMPLES = 320
FITTED_STATES = 25  # for each centre; more change little


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
        """Find centres on (samples,) float32 clips at 16 kHz.

        Raises:
            RecogniserError: there is too little speech.
        """
        states = [_states(recogniser, clip[:WINDOW_SAMPLES]) for clip in clips]
        frames = torch.cat(states) if states else torch.zeros(0, 1)
        if len(frames) < size:
            raise RecogniserError(
                f"{len(frames)} states of speech are too few for {size} centres; at least "
                f"{size * STATE_SAMPLES / SAMPLING_RATE_HZ:.0f} s of audio are needed."
            )
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(frames), generator=generator)[: FITTED_STATES * size]
        return cls(recogniser, kmeans(frames[chosen], size, generator))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file."""
        about = {"whisper": self.recogniser.fingerprint().hex()}
        save_file({"centres": self.centres.contiguous()}, path, metadata=about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], recogniser: OriginalWhisper) -> "KMeansTokens":
        """Read what `save` wrote.

        Raises:
            RecogniserError: not there, no such file, or fitted to another Whisper.
        """
        try:
            with safe_open(Path(path), "pt") as file:
                centres, about = file.get_tensor("centres"), file.metadata()
        except Exception as error:  # safetensors and the system each raise their own
            raise RecogniserError(
                f"{path}: no centres can be read ({error}). recipes/wer_vs_bitrate/fit_kmeans.py "
                "makes such a file."
            ) from error
        if (about or {}).get("whisper") != recogniser.fingerprint().hex():
            raise RecogniserError(
                f"{path}: fitted to another recogniser than {recogniser.name}. Fit centres to it "
                "with recipes/wer_vs_bitrate/fit_kmeans.py."
            )
        return cls(recogniser, centres)

    def bytes_of(self, states: int) -> int:
        """Size of so many states."""
        codes = np.zeros((1, states), np.int64)
        return len(pack_codes(codes, bits_per_code(len(self.centres))))

    @torch.inference_mode()
    def hear(self, clips: list[np.ndarray]) -> tuple[list[str], list[int], float, float]:
        """Transcribe (samples,) float32 clips at 16 kHz.

        Returns:
            texts, bytes of each clip's codes, and the seconds that Whisper's encoder took and all
            the rest.
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
        size = [self.bytes_of(-(-len(clip) // STATE_SAMPLES)) for clip in clips]
        return texts, size, encode_s, time.perf_counter() - started - encode_s


def _states(recogniser: OriginalWhisper, clip: np.ndarray) -> Tensor:
    """Encoder states (states of the clip, d_model), without those of the padding."""
    features = recogniser.feature_extractor(
        clip, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
    ).input_features
    states = recogniser.model.model.encoder(features).last_hidden_state[0]
    return states[: -(-len(clip) // STATE_SAMPLES)].clone()
