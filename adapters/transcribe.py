"""Codes -> text: windows, silence, batches."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from vqasr.adapters.recogniser import WhisperRecogniser, load_recogniser
from vqasr.adapters.whisper import CodesWhisper, to_features
from vqasr.adapters.whisper_adapter import WhisperAdapter
from vqasr.adapters.windows import cut_windows, has_speech

from vqasr.assets import adapter_for
from vqasr.errors import CodecMismatchError, InvalidCodesError, RecogniserError
from vqasr.stream import Stream

# Speech is looked for in pieces of ten minutes, so that memory does not grow with the recording.
PIECE_FRAMES = 15_000


@dataclass
class _Window:
    clip: int
    heard: Tensor


class CodesRecogniser:
    """A recogniser that reads codes.

    Args:
        recogniser: the base model; its weights are shared and stay as they are.
        adapter: trained for it.

    Raises:
        RecogniserError: the adapter's width is not the recogniser's.
    """

    def __init__(self, recogniser: WhisperRecogniser, adapter: WhisperAdapter):
        width = recogniser.model.config.d_model
        if adapter.embedder.config.embed_dim != width:
            raise RecogniserError(
                f"the adapter was trained for {adapter.base_model} (width "
                f"{adapter.embedder.config.embed_dim}); {recogniser.name} has width {width}. "
                "Use the recogniser it was trained for, or train another adapter."
            )
        self.recogniser = recogniser
        self.adapter = adapter
        self.model = CodesWhisper(recogniser.model, adapter.embedder)

    @classmethod
    def from_pretrained(cls, asr: str = "tiny.en", adapter: str | None = None) -> "CodesRecogniser":
        """Load recogniser and adapter; without `adapter`, the one that ships for this recogniser.

        Raises:
            RecogniserError: either cannot be had.
        """
        name = adapter or adapter_for(asr)
        if name is None:
            raise RecogniserError(
                f"no adapter ships for the recogniser {asr!r}; one ships for 'tiny.en'. Give the "
                "folder of an adapter trained for it."
            )
        return cls(load_recogniser(asr), WhisperAdapter.from_pretrained(name))

    def transcribe_streams(self, streams: list[Stream], batch_size: int = 8) -> list[str]:
        """Texts of read `.vqs` streams.

        Raises:
            CodecMismatchError: a stream was written by another codec than the adapter's.
        """
        for stream in streams:
            if stream.header.fingerprint != self.adapter.codec_fingerprint:
                raise CodecMismatchError(
                    f"the stream was written by codec {stream.header.fingerprint.hex()}, the "
                    f"adapter reads codec {self.adapter.codec_fingerprint.hex()}. Use an adapter "
                    "trained for the stream's codec."
                )
        return self.transcribe_codes([stream.codes for stream in streams], batch_size)

    def transcribe_codes(self, clips: list[np.ndarray], batch_size: int = 8) -> list[str]:
        """Texts of clips of any length.

        Args:
            clips: each (n, frames) int codes.
            batch_size: windows of 30 s that are decoded together.

        Raises:
            InvalidCodesError: shape or range of the codes is wrong.
        """
        config = self.adapter.embedder.config
        tensors = []
        for codes in clips:
            if codes.ndim != 2 or not 1 <= len(codes) <= config.num_quantizers:
                raise InvalidCodesError(
                    f"codes have shape {codes.shape}; (n, frames) with n from 1 to "
                    f"{config.num_quantizers} is needed."
                )
            if codes.size and not 0 <= codes.min() <= codes.max() < config.codebook_size:
                raise InvalidCodesError(
                    f"codes range from {codes.min()} to {codes.max()}; allowed are 0 to "
                    f"{config.codebook_size - 1}."
                )
            tensors.append(torch.from_numpy(codes.astype(np.int64)))
        return self._transcribe(tensors, batch_size)

    def transcribe_latents(self, clips: list[Tensor], batch_size: int = 8) -> list[str]:
        """Texts of unquantized latents, each (frames, latent_dim): the ceiling of the codes."""
        return self._transcribe([clip.T for clip in clips], batch_size)

    @torch.inference_mode()
    def _transcribe(self, clips: list[Tensor], batch_size: int) -> list[str]:
        windows = [w for i, clip in enumerate(clips) for w in self._windows(i, clip)]
        # Codebook counts differ between clips; one batch holds one kind. Long windows decode
        # longer, so neighbours in length go together.
        order = sorted(windows, key=lambda w: (w.heard.shape[0], w.heard.shape[1]))
        parts: dict[int, list[str]] = {id(w): [] for w in windows}
        start = 0
        while start < len(order):
            batch = [w for w in order[start : start + batch_size]
                     if w.heard.shape[0] == order[start].heard.shape[0]]  # fmt: skip
            start += len(batch)
            grid = torch.cat([to_features(w.heard[None]) for w in batch])
            texts = self.recogniser.generate_text(self.model, grid)
            for window, text in zip(batch, texts, strict=True):
                parts[id(window)].append(text)
        joined: list[list[str]] = [[] for _ in clips]
        for window in windows:
            joined[window.clip] += [text for text in parts[id(window)] if text]
        return [" ".join(texts) for texts in joined]

    def _windows(self, index: int, clip: Tensor) -> list[_Window]:
        """Windows of a clip that hold speech; clip is (n or latent_dim, frames)."""
        if clip.shape[1] == 0:
            return []
        speech = self._speech(clip)
        return [
            _Window(index, clip[:, start:end])
            for start, end in cut_windows(speech)
            if has_speech(speech[start:end])
        ]

    def _speech(self, clip: Tensor) -> np.ndarray:
        probabilities = [
            self.adapter.embedder.speech_probability(piece[None])[0]
            for piece in clip.split(PIECE_FRAMES, dim=1)
        ]
        return torch.cat(probabilities).numpy()
