"""What all recognisers of codes share: windows, silence, batches, checks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.segments import Segment
from vqasr.adapters.windows import cut_windows, has_speech
from vqasr.compression.compress import check_codec
from vqasr.errors import InvalidCodesError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import FRAME_S, MISSING, NO_FRAME
from vqasr.stream.stream import Stream

# Speech is looked for in pieces of ten minutes, so that memory does not grow with the recording.
PIECE_FRAMES = 15_000


@dataclass
class _Window:
    """A part of a clip; times of its segments are those of the clip."""

    clip: int
    start_s: float
    heard: Tensor
    segments: list[Segment] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        return self.start_s + self.heard.shape[1] * FRAME_S


class Recogniser(ABC):
    """A recogniser that reads codes.

    Attributes:
        embedder: codes to its embeddings.
        codec_fingerprint: 6 bytes, of the codec whose codes it reads.
        reads_audio: `transcribe_audio` works.
    """

    reads_audio = True
    embedder: CodeEmbedder
    codec_fingerprint: bytes

    @abstractmethod
    def read_texts(self, heard: Tensor) -> list[str]:
        """Texts of (batch, n, frames) codes, or latents; -1 behind the end of shorter items.

        No item is longer than 750 frames (30 s).
        """

    @abstractmethod
    def read_segments(self, heard: Tensor) -> list[list[Segment]]:
        """As `read_texts`, with the times of what was said, in seconds from the first frame."""

    @abstractmethod
    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        """Texts of uncompressed (samples,) float32 clips at 16 kHz, by the same recogniser.

        Raises:
            RecogniserError: it reads nothing but codes.
        """

    @abstractmethod
    def fingerprint(self) -> bytes:
        """6 bytes that name the weights that make texts of embeddings."""

    def embedder_fingerprint(self) -> bytes:
        """6 bytes that name the weights that make embeddings of codes."""
        return weights_fingerprint(self.embedder.state_dict())

    def transcribe_streams(self, streams: list[Stream], batch_size: int = 8) -> list[str]:
        """Texts of read `.vqs` streams.

        Raises:
            CodecMismatchError: a stream was written by another codec.
        """
        for stream in streams:
            check_codec(stream, self.codec_fingerprint)
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

    def transcribe_latents(self, clips: list[Tensor], batch_size: int = 8) -> list[str]:
        """Texts of unquantized latents, each (frames, latent_dim): the ceiling of the codes."""
        found = self._transcribe([clip.T for clip in clips], batch_size, timestamps=False)
        return [_joined(segments) for segments in found]

    @torch.inference_mode()
    def speech_probability(self, codes: np.ndarray) -> np.ndarray:
        """(n, frames) codes -> (frames,) probability that somebody speaks."""
        return self._speech(torch.from_numpy(codes.astype(np.int64)))

    def _checked(self, clips: list[np.ndarray]) -> list[Tensor]:
        config = self.embedder.config
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
            heard = _padded([w.heard for w in batch])
            if timestamps:
                for window, segments in zip(batch, self.read_segments(heard), strict=True):
                    window.segments = [_moved(segment, window) for segment in segments]
                continue
            for window, text in zip(batch, self.read_texts(heard), strict=True):
                window.segments = [Segment(window.start_s, window.end_s, text)] if text else []
        return [
            [segment for w in windows if w.clip == i for segment in w.segments]
            for i in range(len(clips))
        ]

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
            self.embedder.speech_probability(piece[None])[0]
            for piece in clip.split(PIECE_FRAMES, dim=1)
        ]
        return torch.cat(probabilities).numpy()


def _padded(items: list[Tensor]) -> Tensor:
    """(n, frames) each -> (batch, n, longest); behind the end no frame (-1), of latents zeros."""
    longest = max(item.shape[1] for item in items)
    value = 0.0 if items[0].is_floating_point() else NO_FRAME
    return torch.stack([F.pad(i, (0, longest - i.shape[1]), value=value) for i in items])


def _joined(segments: list[Segment]) -> str:
    return " ".join(segment.text for segment in segments)


def _moved(segment: Segment, window: _Window) -> Segment:
    """From the window's time to the clip's; Whisper sometimes hears beyond the window's end."""
    start, end = (
        round(min(window.start_s + t, window.end_s), 2) for t in (segment.start_s, segment.end_s)
    )
    return Segment(start, end, segment.text)
