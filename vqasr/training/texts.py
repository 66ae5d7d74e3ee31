"""Transcripts as numbers: tokens for the recognisers' decoders, letters for CTC."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.training.recordings import to_device

# Batches' texts and predicted positions come in multiples of these: few shapes, see `WIDTHS_S`.
TOKEN_MULTIPLE, POSITION_MULTIPLE = 8, 64
ENDS = (".", "?", "!")
BLANK = 0
LETTERS = "_ abcdefghijklmnopqrstuvwxyz'"  # index 0 is CTC's blank


def as_whisper_writes(text: str, full_stop: bool) -> str:
    """Put a transcript into sentence case; with `full_stop`, add a full stop where it has none."""
    text = text.strip()
    text = text.capitalize() if text.isupper() or text.islower() else text
    return f"{text}." if full_stop and text and not text.endswith(ENDS) else text


def english_prompt(config: Any) -> list[int]:
    """Return the tokens before an English transcript, given Whisper's generation config."""
    start = [config.decoder_start_token_id, config.no_timestamps_token_id]
    if getattr(config, "is_multilingual", False):
        start[1:1] = [config.lang_to_id["<|en|>"], config.task_to_id["transcribe"]]
    return start


@dataclass
class TokenTargets:
    """Tokens that the decoder has to predict for a batch."""

    tokens: Tensor  # (items, tokens) int64 decoder inputs
    # (positions,) int64, places in the flattened tokens that predict text or its end; filled up
    # with places that have no weight.
    positions: Tensor
    labels: Tensor  # (positions,) int64, the tokens to predict there
    text_weight: Tensor  # (positions,) float32, 1 for text
    end_weight: Tensor  # (positions,) float32, 1 for its end


class TokenTable:
    """Tokens of all transcripts of a data set for one recogniser, on a device."""

    def __init__(self, recogniser: OriginalWhisper, texts: list[str], device: torch.device):
        config: Any = recogniser.model.generation_config
        start = english_prompt(config)
        self._start, self._count, self._device = len(start), len(texts), device
        rows = []
        for full_stop in (False, True):
            written = [as_whisper_writes(text, full_stop) for text in texts]
            spaced = [f" {text}" for text in written]
            ids = recogniser.tokenizer(spaced, add_special_tokens=False).input_ids
            rows += [start + (i if text else []) for text, i in zip(written, ids, strict=True)]
        self._lengths = np.array([len(row) for row in rows])
        self._table = _table(rows, config.eos_token_id).to(device)

    def __call__(self, rows: np.ndarray, full_stop: np.ndarray, with_end: bool) -> TokenTargets:
        """Look up the tokens of some transcripts.

        Args:
            rows: (items,) numbers of the transcripts.
            full_stop: (items,) bool, add a full stop where there is none.
            with_end: predict the end of the text too.
        """
        rows = rows + full_stop * self._count
        lengths = self._lengths[rows]
        longest = int(lengths.max()) + 1  # at least one padding token, which is the end of text
        width = min(-(-longest // TOKEN_MULTIPLE) * TOKEN_MULTIPLE, self._table.shape[1])
        place = np.arange(width)
        last = (lengths - 1)[:, None]
        text = (place >= self._start - 1) & (place < last)
        end = (place == last) & (lengths > self._start)[:, None] & with_end
        places = np.flatnonzero(text | end)
        padding = (0, -len(places) % POSITION_MULTIPLE)
        weights = (
            to_device(np.pad(used.ravel()[places], padding).astype(np.float32), self._device)
            for used in (text, end)
        )
        positions = to_device(np.pad(places, padding), self._device)
        tokens = self._table[to_device(rows, self._device), :width]
        labels = tokens.roll(-1, dims=1).flatten()[positions]
        return TokenTargets(tokens, positions, labels, *weights)


def letters_of(text: str) -> list[int]:
    """Return the letters of a text, by their place in `LETTERS`."""
    if re.search(r"\d", text):
        return []
    return [LETTERS.index(c) for c in " ".join(re.findall(r"[a-z']+", text.lower()))]


class LetterTable:
    """Letters of all transcripts for CTC, on a device; transcripts with digits have none.

    Args:
        texts: the transcripts.
        device: of the table.
        spell: gives the letters, or other tokens, of a transcript.
    """

    def __init__(
        self,
        texts: list[str],
        device: torch.device,
        spell: Callable[[str], list[int]] = letters_of,
    ):
        rows = [spell(text) for text in texts]
        self._lengths = np.array([len(row) for row in rows])
        self._table = _table(rows, BLANK).to(device)

    def __call__(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return (items, letters) int64 on the device and their lengths (items,) on the CPU."""
        lengths = self._lengths[rows]
        letters = self._table[to_device(rows, self._table.device), : max(1, lengths.max())]
        return letters, torch.from_numpy(lengths)


def _table(rows: list[list[int]], padding: int) -> Tensor:
    """Pad rows of numbers to (rows, longest + 1) int64."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return F.pad(pad_sequence(tensors, True, padding), (0, 1), value=padding)
