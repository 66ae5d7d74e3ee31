"""Define the base class of recognisers of codes: windows, silence, batches, checks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.segments import Segment
from vqasr.adapters.windows import cut_windows, has_speech
from vqasr.errors import InvalidCodesError, RecogniserError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import FRAME_S, MISSING, NO_FRAME
from vqasr.stream.stream import Stream

# Speech is detected in pieces of ten minutes, so that memory does not grow with the recording.
PIECE_FRAMES = 15_000


@dataclass
class _Window:
    """Codes or latents (n or latent_dim, frames) from start_s of a clip, and their segments."""

    clip: int
    start_s: float
    codes: Tensor
    segments: list[Segment] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        return self.start_s + self.codes.shape[1] * FRAME_S

    def in_clip(self, segment: Segment) -> Segment:
        """Shift a segment to the clip's time; Whisper's can end after the window."""
        start, end = (
            round(min(self.start_s + t, self.end_s), 2) for t in (segment.start_s, segment.end_s)
        )
        return Segment(start, end, segment.text)


def move(model: Any, device: str) -> None:
    """Move a model to a device.

    Raises:
        RecogniserError: there is no such device.
    """
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise RecogniserError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}). Use cpu."
        ) from error


class Recogniser(ABC):
    """Transcribe codes.

    Attributes:
        embedder: maps codes to the recogniser's embeddings.
        codec_fingerprint: 6 bytes, of the codec whose codes it reads.
        reads_audio: whether `transcribe_audio` is possible.
    """

    reads_audio = True
    model: Any
    embedder: CodeEmbedder
    codec_fingerprint: bytes

    @abstractmethod
    def read_texts(self, codes: Tensor) -> list[str]:
        """Transcribe a batch of codes or latents, as `CodeEmbedder.look_up` takes them.

        No item is longer than 750 frames (30 s).
        """

    @abstractmethod
    def read_segments(self, codes: Tensor) -> list[list[Segment]]:
        """Transcribe as `read_texts`, with timestamps in seconds from the first frame."""

    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        """Transcribe uncompressed (samples,) float32 clips at 16 kHz with the same recogniser.

        Raises:
            RecogniserError: it reads codes only.
        """
        raise RecogniserError(
            "this recogniser reads codes only, not audio. Give it codes, or use a Whisper "
            "(--asr tiny.en)."
        )

    def to(self, device: str) -> Self:
        """Move the models to a device such as "cuda"; codes and texts stay on the CPU.

        Raises:
            RecogniserError: there is no such device.
        """
        move(self.model, device)
        return self

    @abstractmethod
    def fingerprint(self) -> bytes:
        """Return 6 bytes that identify the weights after the embedder."""

    def embedder_fingerprint(self) -> bytes:
        """Return 6 bytes that identify the embedder's weights."""
        return weights_fingerprint(self.embedder.state_dict())

    def transcribe_streams(self, streams: list[Stream] | Stream, batch_size: int = 8) -> list[str]:
        """Transcribe streams; arguments as `transcribe_codes`.

        Raises:
            CodecMismatchError: a stream was written by another codec.
        """
        streams = [streams] if isinstance(streams, Stream) else streams
        for stream in streams:
            stream.header.check_codec(self.codec_fingerprint)
        return self.transcribe_codes([stream.codes for stream in streams], batch_size)

    def transcribe_codes(
        self, clips: list[np.ndarray] | np.ndarray, batch_size: int = 8
    ) -> list[str]:
        """Transcribe clips of any length.

        Args:
            clips: each (n, frames) int codes, -2 for lost frames; or one such clip.
            batch_size: number of windows of up to 30 s that are decoded together.

        Raises:
            InvalidCodesError: the codes have a wrong shape, or are out of range.
        """
        return _texts(self._transcribe(self.checked(clips), batch_size, timestamps=False))

    def segments_of_codes(
        self, clips: list[np.ndarray] | np.ndarray, batch_size: int = 8
    ) -> list[list[Segment]]:
        """Transcribe as `transcribe_codes`, with timestamps."""
        return self._transcribe(self.checked(clips), batch_size, timestamps=True)

    def transcribe_latents(self, clips: list[Tensor] | Tensor, batch_size: int = 8) -> list[str]:
        """Transcribe unquantized latents, each (frames, latent_dim): the upper bound for codes."""
        clips = _several(clips)
        return _texts(self._transcribe([clip.T for clip in clips], batch_size, timestamps=False))

    @torch.inference_mode()
    def speech_probability(self, codes: np.ndarray) -> np.ndarray:
        """Estimate the probability of speech in (n, frames) codes: (frames,)."""
        return self._speech(torch.from_numpy(codes.astype(np.int64)))

    @torch.inference_mode()
    def holds_speech(self, latents: Tensor) -> bool:
        """Tell whether unquantized (frames, latent_dim) hold speech in any window."""
        return bool(self._windows(0, latents.T))

    def checked(self, clips: list[np.ndarray] | np.ndarray) -> list[Tensor]:
        """Check clips as `transcribe_codes` takes them; return int64 codes (n, frames) of each."""
        config = self.embedder.config
        tensors = []
        for codes in map(np.asarray, _several(clips)):
            if codes.dtype.kind not in "iu":
                raise InvalidCodesError(f"codes have type {codes.dtype}; integers are needed.")
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

    def checked_next(self, codes: np.ndarray, before: Any | None) -> Tensor:
        """Check codes that follow those `before` of a stream, as `checked` does.

        Raises:
            InvalidCodesError: as `checked`, or they have another number of codebooks.
        """
        (new,) = self.checked([codes])
        if before is not None and len(new) != len(before):
            raise InvalidCodesError(
                f"codes of {len(new)} codebooks follow codes of {len(before)}. Make a new stream "
                "for each number of codebooks."
            )
        return new

    @torch.inference_mode()
    def _transcribe(
        self, clips: list[Tensor], batch_size: int, timestamps: bool
    ) -> list[list[Segment]]:
        """Return the segments of each clip; without timestamps, one for each window."""
        windows = [w for i, clip in enumerate(clips) for w in self._windows(i, clip)]
        # A batch has one number of codebooks, and windows of similar length: they decode together.
        order = sorted(windows, key=lambda w: w.codes.shape)
        while order:
            n = len(order[0].codes)
            batch = [w for w in order[:batch_size] if len(w.codes) == n]
            order = order[len(batch) :]
            codes = _padded([w.codes for w in batch])
            if timestamps:
                for window, segments in zip(batch, self.read_segments(codes), strict=True):
                    window.segments = [window.in_clip(segment) for segment in segments]
                continue
            for window, text in zip(batch, self.read_texts(codes), strict=True):
                window.segments = [Segment(window.start_s, window.end_s, text)] if text else []
        return [
            [segment for w in windows if w.clip == i for segment in w.segments]
            for i in range(len(clips))
        ]

    def _windows(self, index: int, clip: Tensor) -> list[_Window]:
        """Cut a clip into windows, without those that hold no speech."""
        if clip.shape[1] == 0:
            return []
        speech = self._speech(clip)
        return [
            _Window(index, start * FRAME_S, clip[:, start:end])
            for start, end in cut_windows(speech)
            if has_speech(speech[start:end])
        ]

    def _speech(self, clip: Tensor) -> np.ndarray:
        device = self.embedder.missing_frame.device
        probabilities = [
            self.embedder.speech_probability(piece[None].to(device))[0]
            for piece in clip.split(PIECE_FRAMES, dim=1)
        ]
        return torch.cat(probabilities).float().cpu().numpy()


def _several(clips: Any) -> list[Any]:
    """Return a list of clips, which one array or tensor (rows, frames) becomes too."""
    return [clips] if getattr(clips, "ndim", None) == 2 else list(clips)


def _padded(items: list[Tensor]) -> Tensor:
    """Stack (n, frames) codes or latents to (batch, n, longest), padded with -1 or zeros."""
    value = 0.0 if items[0].is_floating_point() else NO_FRAME
    rows = pad_sequence([item.T for item in items], batch_first=True, padding_value=value)
    return rows.transpose(1, 2).contiguous()


def _texts(transcripts: list[list[Segment]]) -> list[str]:
    return [" ".join(segment.text for segment in segments) for segments in transcripts]
