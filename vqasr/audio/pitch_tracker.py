"""Fundamental frequency of each frame while the audio comes in, on a scale of quarter tones.

After Boersma (1993), "Accurate short-term analysis of the fundamental frequency": autocorrelation
over that of the window, and the best path through all frames (Viterbi). Written by hand: Praat sees
whole recordings, and torchaudio's tracker knows no unvoiced frames.
"""

import math

import numpy as np
import numpy.typing as npt

from vqasr.audio.arrays import to_mono
from vqasr.grid import (
    HOP_LENGTH,
    LOWEST_PITCH_HZ,
    PITCH_CODES,
    PITCH_STEPS,
    SAMPLING_RATE_HZ,
)

WINDOW = 1024  # samples, 64 ms
N_FFT = 2048
FINER = 4  # samples of the autocorrelation for each sample of the audio
# A frame is decided when the windows of this many further frames are known.
FRAMES_AHEAD = 5
LOOKAHEAD_SAMPLES = (WINDOW - HOP_LENGTH) // 2 + FRAMES_AHEAD * HOP_LENGTH
# Strengths are correlations, at most 1; costs are subtracted from them.
UNVOICED_STRENGTH = 0.42
OCTAVE_COST = 0.02  # of an octave downwards: halves of the frequency correlate as well
JUMP_COST = 0.25  # of an octave between two frames
VOICE_COST = 0.05  # of a voice's begin or end
# Quieter windows have no voice: root mean square, as a share of the loudest one (which is forgotten
# within seconds), and at full scale 1.
QUIET, SILENT = 0.05, 1e-4
KEPT = 0.99  # of the loudest, from frame to frame


class PitchTracker:
    """Track one clip; the codes of a frame do not depend on how the audio comes in pieces."""

    def __init__(self) -> None:
        self._window = np.hanning(WINDOW + 1)[:-1]
        frequencies = pitch_of(np.arange(1, PITCH_CODES))
        lags = FINER * SAMPLING_RATE_HZ / frequencies
        self._lag, self._part = np.divmod(lags, 1.0)
        self._lag = self._lag.astype(int)
        own = self._autocorrelation(np.ones(WINDOW))
        self._of_window = self._at_lags(own) / own[0]
        octaves = np.log2(frequencies / frequencies[-1])
        self._octave_cost = -OCTAVE_COST * octaves
        moves = np.full((PITCH_CODES, PITCH_CODES), VOICE_COST)
        moves[0, 0] = 0.0
        moves[1:, 1:] = JUMP_COST * np.abs(octaves[:, None] - octaves)
        self._moves = moves
        self._audio = np.zeros((WINDOW - HOP_LENGTH) // 2, np.float32)
        self._scores: npt.NDArray[np.float64] | None = None
        self._back: list[npt.NDArray[np.int64]] = []  # best code of the frame before, for each code
        self._loudest = 0.0
        self._samples = 0
        self._frames = 0  # that were returned

    def push(self, samples: np.ndarray) -> npt.NDArray[np.int64]:
        """Add (samples,) float at 16 kHz; return the (frames,) codes that are certain.

        0 is unvoiced, code c > 0 the frequency `pitch_of(c)`.

        Raises:
            AudioError: see `to_mono`.
        """
        if samples.size:
            samples = to_mono(samples, "chunk")
        self._samples += len(samples)
        self._audio = np.concatenate([self._audio, samples.astype(np.float32)])
        decided = []
        while len(self._audio) >= WINDOW:
            self._add(self._audio[:WINDOW])
            self._audio = self._audio[HOP_LENGTH:]
            if len(self._back) > FRAMES_AHEAD:
                decided.append(self._path()[0])
                del self._back[0]
        self._frames += len(decided)
        return np.array(decided, np.int64)

    def finish(self) -> npt.NDArray[np.int64]:
        """End the clip; return the (frames,) codes that waited: all are ceil(samples / 640)."""
        missing = -(-self._samples // HOP_LENGTH) - self._frames
        while len(self._back) < missing:
            padded = np.zeros(WINDOW, np.float32)
            padded[: len(self._audio)] = self._audio[:WINDOW]
            self._add(padded)
            self._audio = self._audio[HOP_LENGTH:]
        return np.array(self._path() if missing else [], np.int64)

    def _add(self, audio: np.ndarray) -> None:
        """Take the window of one frame more."""
        strengths = self._strengths(audio)
        if self._scores is None:
            self._scores = strengths
            self._back.append(np.zeros(PITCH_CODES, np.int64))
            return
        ways = self._scores[:, None] - self._moves
        best = ways.argmax(0)
        self._scores = ways[best, np.arange(PITCH_CODES)] + strengths
        self._scores -= self._scores.max()  # so that they stay small
        self._back.append(best)

    def _path(self) -> list[int]:
        """Return the best codes of the undecided frames."""
        assert self._scores is not None  # for the type checker: there are frames
        codes = [int(self._scores.argmax())]
        for back in self._back[:0:-1]:
            codes.append(int(back[codes[-1]]))
        return codes[::-1]

    def _strengths(self, audio: np.ndarray) -> npt.NDArray[np.float64]:
        """Rate all codes by one window."""
        strengths = np.full(PITCH_CODES, UNVOICED_STRENGTH)
        centred = audio - audio.mean(dtype=np.float64)
        level = math.sqrt(float(np.square(centred).mean()))
        self._loudest = max(level, KEPT * self._loudest)
        if level < max(SILENT, QUIET * self._loudest):
            strengths[1:] = 0.0
            return strengths
        correlation = self._autocorrelation(centred)
        strengths[1:] = self._at_lags(correlation) / correlation[0] / self._of_window
        strengths[1:] -= self._octave_cost
        return strengths

    def _autocorrelation(self, audio: np.ndarray) -> npt.NDArray[np.float64]:
        power = np.abs(np.fft.rfft(audio * self._window, N_FFT)) ** 2
        return np.fft.irfft(power, FINER * N_FFT)

    def _at_lags(self, correlation: np.ndarray) -> npt.NDArray[np.float64]:
        """Interpolate the autocorrelation at the periods of all voiced codes."""
        below, above = correlation[self._lag], correlation[self._lag + 1]
        between: npt.NDArray[np.float64] = below + self._part * (above - below)
        return between


class LivePitch:
    """Track one clip beside an encoder that returns fewer frames at a time."""

    def __init__(self) -> None:
        self._tracker = PitchTracker()
        self._waiting = np.zeros(0, np.int64)

    def push(self, samples: np.ndarray, frames: int) -> npt.NDArray[np.int64]:
        """Add (samples,) as to `PitchTracker`; return the codes of the next (frames,).

        The encoder's look-ahead must be at least `LOOKAHEAD_SAMPLES`.
        """
        known = np.concatenate([self._waiting, self._tracker.push(samples)])
        self._waiting = known[frames:]
        return known[:frames]

    def finish(self) -> npt.NDArray[np.int64]:
        """End the clip; return the (frames,) codes that are left."""
        return np.concatenate([self._waiting, self._tracker.finish()])


def pitch_of(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the frequencies in Hz of voiced codes of any shape."""
    return LOWEST_PITCH_HZ * np.exp2((codes - 1) / PITCH_STEPS)


def track_codes(samples: np.ndarray) -> npt.NDArray[np.int64]:
    """Track a whole clip (samples,) at 16 kHz: (ceil(samples / 640),) codes."""
    tracker = PitchTracker()
    return np.concatenate([tracker.push(samples), tracker.finish()])
