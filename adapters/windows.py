"""Cut long recordings into windows of up to 30 s, and find those without speech."""

import numpy as np
import torch
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.grid import WINDOW_FRAMES

SHORTEST_FRAMES = WINDOW_FRAMES // 2
# Speech probabilities are averaged over this many frames (0.52 s) before a cut, so that it lies in
# the middle of a pause and not in the closure of a plosive.
SMOOTHING_FRAMES = 13
# A window with fewer frames (0.32 s) of speech at this probability counts as silence or noise. With
# these two values, no speech was missed in dev and 194 training utterances, and 2 of 80 held-out
# noises counted as speech (these were also used to choose the values).
FEWEST_SPEECH_FRAMES = 8
SURE_SPEECH = 0.9


def cut_windows(speech: np.ndarray) -> list[tuple[int, int]]:
    """Cut frames into windows where speech is least likely between 15 and 30 s.

    Args:
        speech: (frames,) probability of speech.

    Returns:
        Consecutive windows [start, end) of at most 750 frames.
    """
    if len(speech) <= WINDOW_FRAMES:
        return [(0, len(speech))]
    padded = np.pad(speech, SMOOTHING_FRAMES // 2, mode="edge")
    smooth = np.convolve(padded, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), mode="valid")
    windows, start = [], 0
    while len(speech) - start > WINDOW_FRAMES:
        choices = smooth[start + SHORTEST_FRAMES : start + WINDOW_FRAMES + 1]
        # The last of equal minima, so that windows are long.
        end = start + WINDOW_FRAMES - int(np.argmin(choices[::-1]))
        windows.append((start, end))
        start = end
    return [*windows, (start, len(speech))]


@torch.no_grad()
def have_speech(embedder: CodeEmbedder, codes: Tensor) -> Tensor:
    """Tell which items of codes or latents hold enough speech for a word: (batch,) bool."""
    rows = embedder.speech_probability(codes).float().cpu().numpy()
    return torch.tensor([has_speech(row) for row in rows], device=codes.device)


def has_speech(speech: np.ndarray) -> bool:
    """Tell whether (frames,) probabilities hold enough speech for a word."""
    return int((speech > SURE_SPEECH).sum()) >= FEWEST_SPEECH_FRAMES
