"""Compare voices by the speaker embedding of the package `resemblyzer`.

An LSTM that was trained to tell speakers apart (GE2E, Wan et al. 2018, arXiv 1710.10467). Of the
package only the weights are read: its code of 2023 imports what setuptools and SciPy have dropped.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vqasr.codec.mel import clip_mel_power
from vqasr.errors import VqasrError
from vqasr.grid import FINE_HOP_LENGTH

PACKAGE = "resemblyzer"
INSTALL = "pip install --no-deps resemblyzer==0.1.4"
SIZE, N_LAYERS, N_MELS = 256, 3, 40
PART_FRAMES, STEP_FRAMES = 160, 77  # 1.6 s, 1.3 times a second, as the package's
LEAST_COVERED = 0.75  # of the last part, unless it is the only one
QUIETEST = 10 ** (-30 / 20)  # quieter recordings are amplified to this root mean square


class VoiceEncoder(nn.Module):
    """Embed speech so that recordings of one speaker lie near each other."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(N_MELS, SIZE, N_LAYERS, batch_first=True)
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, mel: Tensor) -> Tensor:
        """Embed (parts, frames, 40) mel power to (parts, 256) of length 1."""
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.inference_mode()
    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Embed (samples,) float32 at 16 kHz to (256,), the mean over its parts, of length 1."""
        loudness = float(np.sqrt(np.mean(np.square(samples))))
        signal = torch.from_numpy(samples) * max(1.0, QUIETEST / max(loudness, 1e-9))
        frames = -(-(len(samples) + 1) // FINE_HOP_LENGTH)
        starts = [*range(0, max(1, frames - PART_FRAMES + STEP_FRAMES + 1), STEP_FRAMES)]
        covered = len(samples) / FINE_HOP_LENGTH - starts[-1]
        if covered < LEAST_COVERED * PART_FRAMES and len(starts) > 1:
            starts.pop()
        whole = FINE_HOP_LENGTH * (starts[-1] + PART_FRAMES)
        signal = nn.functional.pad(signal, (0, max(0, whole - len(signal))))
        mel = clip_mel_power(signal[None], N_MELS)[0]
        parts = torch.stack([mel[start : start + PART_FRAMES] for start in starts])
        return nn.functional.normalize(self(parts).mean(0), dim=0).numpy()


@lru_cache(maxsize=1)
def load_voice_encoder() -> VoiceEncoder:
    """Load the encoder with the weights of the installed package.

    Raises:
        VqasrError: they are not there, or are others.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "pretrained.pt" if spec and spec.origin else None
    try:
        if path is None:
            raise OSError("the package is not installed")
        # Tensors alone: nothing in the file is run.
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        encoder = VoiceEncoder()
        encoder.load_state_dict({k: v for k, v in state.items() if "similarity" not in k})
    except Exception as error:  # torch raises its own
        raise VqasrError(
            f"{PACKAGE}: no weights to compare voices with ({error}). Install them: {INSTALL}."
        ) from error
    return encoder.eval()


def speaker_similarity(clip: np.ndarray, other: np.ndarray) -> float:
    """Return the cosine of the embeddings of two (samples,) float32 clips with speech, 0 to 1."""
    encoder = load_voice_encoder()
    return float(encoder.embed(clip) @ encoder.embed(other))
