"""Cutting long recordings into windows that Whisper can hear, over the codes' own time base."""

import numpy as np

from vqasr.grid import WINDOW_FRAMES

# A window shorter than this is only cut where there is nothing better.
SHORTEST_FRAMES = WINDOW_FRAMES // 2
# Pauses are looked for in speech probabilities averaged over this many frames (0.52 s): a cut
# belongs into the middle of a pause, not into the closure of a plosive.
SMOOTHING_FRAMES = 13
# A window with less than this (0.32 s) of sure speech is taken for silence or noise. On dev and 194
# training utterances no speech was missed with these two; of 80 noises that training had not heard,
# 2 passed for speech (they were also looked at to choose the two numbers).
FEWEST_SPEECH_FRAMES = 8
SURE_SPEECH = 0.9


def cut_windows(speech: np.ndarray) -> list[tuple[int, int]]:
    """Windows [start, end) of at most 750 frames that cover all frames.

    Args:
        speech: (frames,) probability of speech.

    Returns:
        Consecutive windows, each cut where speech is least likely between 15 and 30 s.
    """
    if len(speech) <= WINDOW_FRAMES:
        return [(0, len(speech))]
    padded = np.pad(speech, SMOOTHING_FRAMES // 2, mode="edge")
    smooth = np.convolve(padded, np.full(SMOOTHING_FRAMES, 1 / SMOOTHING_FRAMES), mode="valid")
    windows, start = [], 0
    while len(speech) - start > WINDOW_FRAMES:
        choices = smooth[start + SHORTEST_FRAMES : start + WINDOW_FRAMES + 1]
        # Of equally quiet places the last one, so that windows are long.
        end = start + WINDOW_FRAMES - int(np.argmin(choices[::-1]))
        windows.append((start, end))
        start = end
    return [*windows, (start, len(speech))]


def has_speech(speech: np.ndarray) -> bool:
    """True where (frames,) probabilities hold enough speech for a word."""
    return int((speech > SURE_SPEECH).sum()) >= FEWEST_SPEECH_FRAMES
