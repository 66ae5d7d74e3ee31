"""Transcripts as numbers: tokens for the recognisers' decoders, letters for CTC."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqasr.adapters.original_whisper import OriginalWhisper

# Batches' texts and predicted positions come in multiples of these: few shapes, see `WIDTHS_S`.
TOKEN_MULTIPLE, POSITION_MULTIPLE = 8, 64
ENDS = (".", "?", "!")
BLANK = 0
# Index 0 is CTC's blank.
LETTERS = "_ abcdefghijklmnopqrstuvwxyz'"


def as_whisper_writes(text: str, full_stop: bool) -> str:
    """Put a transcript into sentence case, with a full stop where one is missing (or without)."""
    text = text.strip()
    text = text.capitalize() if text.isupper() or text.islower() else text
    return f"{text}." if full_stop and text and not text.endswith(ENDS) else text


@dataclass
class Wanted:
    """What the decoder is to predict for a batch.

    Attributes:
        tokens: (items, tokens) int64 decoder inputs.
        positions: (positions,) int64, places in the flattened tokens that predict text or its end;
            filled up with places that have no weight.
        following: (positions,) int64, the tokens to predict there.
        word, end: (positions,) float32 weights, 1 for text and for its end.
    """

    tokens: Tensor
    positions: Tensor
    following: Tensor
    word: Tensor
    end: Tensor


class TokenTable:
    """Tokens of all transcripts of a data set, for one recogniser.

    Args:
        recogniser: its tokenizer and start of sequence are used.
        texts: transcripts; empty where there is none.
        device: where the tokens go.
    """

    def __init__(self, recogniser: OriginalWhisper, texts: list[str], device: torch.device):
        config = recogniser.model.generation_config
        start = [config.decoder_start_token_id, config.no_timestamps_token_id]
        if getattr(config, "is_multilingual", False):
            start[1:1] = [config.lang_to_id["<|en|>"], config.task_to_id["transcribe"]]
        self._start = len(start)
        rows = [
            [start + ids if ids else start for ids in _token_ids(recogniser, texts, full_stop)]
            for full_stop in (False, True)
        ]
        self._lengths = np.array([[len(row) for row in kind] for kind in rows])
        table = np.full((2, len(texts), self._lengths.max() + 1), config.eos_token_id, np.int64)
        for kind, filled in zip(rows, table, strict=True):
            for row, ids in zip(filled, kind, strict=True):
                row[: len(ids)] = ids
        self._table = torch.from_numpy(table).to(device)

    def __call__(self, rows: np.ndarray, full_stop: np.ndarray, with_end: bool) -> Wanted:
        """Tokens of some transcripts, (items,) numbers; with a full stop at their ends or without.

        with_end: the end is to be predicted too.
        """
        kind = full_stop.astype(np.int64)
        lengths = self._lengths[kind, rows]
        longest = int(lengths.max()) + 1  # at least one padding token, which is the end of text
        width = min(-(-longest // TOKEN_MULTIPLE) * TOKEN_MULTIPLE, self._table.shape[2])
        place = np.arange(width)
        has_text = lengths > self._start
        last = (lengths - 1)[:, None]
        word = (place >= self._start - 1) & (place < last)
        end = (place == last) & has_text[:, None] & with_end
        positions = np.flatnonzero(word | end)
        missing = -len(positions) % POSITION_MULTIPLE
        weights = [np.pad(w.ravel()[positions], (0, missing)) for w in (word, end)]
        device = self._table.device

        def to_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        tokens = self._table[to_device(kind), to_device(rows), :width]
        chosen = to_device(np.pad(positions, (0, missing)))
        following = tokens.roll(-1, dims=1).flatten()[chosen]
        return Wanted(
            tokens, chosen, following, *(to_device(w.astype(np.float32)) for w in weights)
        )


class LetterTable:
    """Letters of all transcripts, for CTC; transcripts with digits have none.

    Args:
        texts: transcripts.
        device: where the letters go.
    """

    def __init__(self, texts: list[str], device: torch.device):
        rows = [_letters(text) for text in texts]
        self.lengths = np.array([len(row) for row in rows], np.int64)
        table = np.zeros((len(rows), max(1, self.lengths.max(initial=0))), np.int64)
        for filled, row in zip(table, rows, strict=True):
            filled[: len(row)] = row
        self._table = torch.from_numpy(table).to(device)

    def __call__(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """(items, letters) int64 on the device and their lengths (items,) on the CPU."""
        lengths = self.lengths[rows]
        place = torch.from_numpy(rows).to(self._table.device, non_blocking=True)
        return self._table[place, : max(1, lengths.max())], torch.from_numpy(lengths)


def _token_ids(recogniser: OriginalWhisper, texts: list[str], full_stop: bool) -> list[list[int]]:
    written = [as_whisper_writes(text, full_stop) for text in texts]
    ids: list[list[int]] = recogniser.tokenizer(
        [f" {text}" for text in written], add_special_tokens=False
    ).input_ids
    return [row if text else [] for row, text in zip(ids, written, strict=True)]


def _letters(text: str) -> list[int]:
    if re.search(r"\d", text):
        return []
    return [LETTERS.index(c) for c in " ".join(re.findall(r"[a-z']+", text.lower()))]
