"""Codes -> text: windows, silence, batches."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from vqasr.adapters.recogniser import WhisperRecogniser, load_recogniser
from vqasr.adapters.whisper import CodesWhisper, to_features
from vqasr.adapters.whisper_adapter import WhisperAdapter
from vqasr.adapters.windows import cut_windows, has_speech

from vqasr.assets import bundled_adapters
from vqasr.encoding import check_codec
from vqasr.errors import InvalidCodesError, RecogniserError
from vqasr.stream import MISSING, Stream
from vqasr.subtitles import Segment

# Speech is looked for in pieces of ten minutes, so that memory does not grow with the recording.
PIECE_FRAMES = 15_000
FRAME_S = 0.04


@dataclass
class _Window:
    """A part of a clip; times of its segments are those of the clip."""

    clip: int
    start_s: float
    heard: Tensor
    segments: list[Segment] = field(default_factory=list)


class CodesRecogniser:
    """A recogniser that reads codes.

    Args:
        recogniser: the base model; its weights are shared and stay as they are.
        adapter: trained for it.

    Raises:
        RecogniserError: the adapter was trained for other weights.
    """

    def __init__(self, recogniser: WhisperRecogniser, adapter: WhisperAdapter):
        if adapter.base_fingerprint != recogniser.fingerprint():
            raise RecogniserError(
                f"the adapter was trained for {adapter.base_model}, whose weights are not those of "
                f"{recogniser.name}. Use the recogniser it was trained for, or train an adapter."
            )
        self.recogniser = recogniser
        self.adapter = adapter
        self.model = CodesWhisper(recogniser.model, adapter.embedder)

    @classmethod
    def from_pretrained(cls, asr: str = "tiny.en", adapter: str | None = None) -> "CodesRecogniser":
        """Load recogniser and adapter; without `adapter`, the one that ships for its weights.

        Raises:
            RecogniserError: either cannot be had.
        """
        recogniser = load_recogniser(asr)
        if adapter is not None:
            return cls(recogniser, WhisperAdapter.from_pretrained(adapter))
        for name in bundled_adapters():
            bundled = WhisperAdapter.from_pretrained(name)
            if bundled.base_fingerprint == recogniser.fingerprint():
                return cls(recogniser, bundled)
        raise RecogniserError(
            f"no adapter ships for the recogniser {asr!r} (there are {bundled_adapters()}). Give "
            "the folder of an adapter trained for it."
        )

    def transcribe_streams(self, streams: list[Stream], batch_size: int = 8) -> list[str]:
        """Texts of read `.vqs` streams.

        Raises:
            CodecMismatchError: a stream was written by another codec than the adapter's.
        """
        for stream in streams:
            check_codec(stream, self.adapter.codec_fingerprint)
        return self.transcribe_codes([stream.codes for stream in streams], batch_size)

    def transcribe_codes(self, clips: list[np.ndarray], batch_size: int = 8) -> list[str]:
        """Texts of clips of any length.

        Args:
            clips: each (n, frames) int codes; -2 in all of a frame that was lost.
            batch_size: windows of 30 s that are decoded together.

        Raises:
            InvalidCodesError: shape or range of the codes is wrong.
        """
        found = self._transcribe(self._checked(clips), batch_size, timestamps=False)
        return [_joined(segments) for segments in found]

    def segments_of_codes(
        self, clips: list[np.ndarray], batch_size: int = 8
    ) -> list[list[Segment]]:
        """As `transcribe_codes`, with the time of each segment."""
        return self._transcribe(self._checked(clips), batch_size, timestamps=True)

    def _checked(self, clips: list[np.ndarray]) -> list[Tensor]:
        config = self.adapter.embedder.config
        tensors = []
        for codes in clips:
            if codes.ndim != 2 or not 1 <= len(codes) <= config.num_quantizers:
                raise InvalidCodesError(
                    f"codes have shape {codes.shape}; (n, frames) with n from 1 to "
                    f"{config.num_quantizers} is needed."
                )
            kept = codes[:, codes[0] != MISSING]
            if kept.size and not 0 <= kept.min() <= kept.max() < config.codebook_size:
                raise InvalidCodesError(
                    f"codes range from {kept.min()} to {kept.max()}; allowed are 0 to "
                    f"{config.codebook_size - 1}, and {MISSING} for a lost frame."
                )
            tensors.append(torch.from_numpy(codes.astype(np.int64)))
        return tensors

    def transcribe_latents(self, clips: list[Tensor], batch_size: int = 8) -> list[str]:
        """Texts of unquantized latents, each (frames, latent_dim): the ceiling of the codes."""
        found = self._transcribe([clip.T for clip in clips], batch_size, timestamps=False)
        return [_joined(segments) for segments in found]

    @torch.inference_mode()
    def _transcribe(
        self, clips: list[Tensor], batch_size: int, timestamps: bool
    ) -> list[list[Segment]]:
        """Segments of each clip; without timestamps, one for each window."""
        windows = [w for i, clip in enumerate(clips) for w in self._windows(i, clip)]
        # Codebook counts differ between clips; one batch holds one kind. Long windows decode
        # longer, so neighbours in length go together.
        order = sorted(windows, key=lambda w: w.heard.shape)
        while order:
            kind = order[0].heard.shape[0]
            batch = [w for w in order[:batch_size] if w.heard.shape[0] == kind]
            order = order[len(batch) :]
            grid = torch.cat([to_features(w.heard[None]) for w in batch])
            if timestamps:
                for window, segments in zip(
                    batch, self.recogniser.generate_segments(self.model, grid), strict=True
                ):
                    window.segments = [_moved(segment, window) for segment in segments]
                continue
            texts = self.recogniser.generate_text(self.model, grid)
            for window, text in zip(batch, texts, strict=True):
                end_s = window.start_s + window.heard.shape[1] * FRAME_S
                window.segments = [Segment(window.start_s, end_s, text)] if text else []
        return [
            [segment for w in windows if w.clip == i for segment in w.segments]
            for i in range(len(clips))
        ]

    @torch.inference_mode()
    def speech_probability(self, codes: np.ndarray) -> np.ndarray:
        """(n, frames) codes -> (frames,) probability that somebody speaks."""
        return self._speech(torch.from_numpy(codes.astype(np.int64)))

    def _windows(self, index: int, clip: Tensor) -> list[_Window]:
        """Windows of a clip that hold speech; clip is (n or latent_dim, frames)."""
        if clip.shape[1] == 0:
            return []
        speech = self._speech(clip)
        return [
            _Window(index, start * FRAME_S, clip[:, start:end])
            for start, end in cut_windows(speech)
            if has_speech(speech[start:end])
        ]

    def _speech(self, clip: Tensor) -> np.ndarray:
        probabilities = [
            self.adapter.embedder.speech_probability(piece[None])[0]
            for piece in clip.split(PIECE_FRAMES, dim=1)
        ]
        return torch.cat(probabilities).numpy()


def _joined(segments: list[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def _moved(segment: Segment, window: _Window) -> Segment:
    """From the window's time to the clip's; Whisper sometimes hears beyond the window's end."""
    end_s = window.start_s + window.heard.shape[1] * FRAME_S
    start, end = (
        round(min(window.start_s + t, end_s), 2) for t in (segment.start_s, segment.end_s)
    )
    return Segment(start, end, segment.text)
