"""Batches of codes for transformers' `Trainer`, with dropped codebooks and gaps as augmentation."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vqasr.adapters.ctc import IGNORED
from vqasr.adapters.whisper import to_features
from vqasr.data.tokenized import row_codes
from vqasr.grid import MISSING, NO_FRAME

# `accelerator_config` of Trainer: several processes share one order of the rows. Else each draws
# its own, and once dropout has moved their generators apart some rows come twice.
# Of a stream, each process takes its rows of a batch: batches of one process that are handed
# to the others would need one width.
SAME_ORDER = {"use_seedable_sampler": False, "dispatch_batches": False}


class CleanEvaluation:
    """Mixin for `Trainer`: evaluate without augmentation, with `dev_collator`."""

    data_collator: Any
    dev_collator: "CodesCollator"

    def get_eval_dataloader(self, *arguments: Any, **settings: Any) -> Any:
        """Return Trainer's data loader, with `dev_collator` for its batches."""
        collator, self.data_collator = self.data_collator, self.dev_collator
        try:
            return super().get_eval_dataloader(*arguments, **settings)  # type: ignore[misc]
        finally:
            self.data_collator = collator


@dataclass
class CodesCollator:
    """Collate rows of `vqasr tokenize` and their transcripts.

    Draws come from torch's generator, which `Trainer` seeds.
    """

    tokenizer: PreTrainedTokenizerBase
    # input_features on Whisper's grid of 30 s; else input_values and attention_mask for
    # `VQWav2Vec2ForCTC`.
    for_whisper: bool
    num_quantizers: tuple[int, ...]  # numbers of codebooks, of which each batch draws one
    mask_spans: int = 0  # the most gaps of an item
    mask_frames: int = 12  # the most frames of a gap (SpecAugment, arXiv 1904.08779, for codes)
    text_column: str = "text"  # of the transcripts
    frames_multiple: int = 16  # of a batch's frames: oneDNN compiles anew for every shape

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return input_values (batch, frames, n) or the like, and labels (batch, tokens)."""
        n = self.num_quantizers[int(torch.randint(len(self.num_quantizers), ()))]
        items = [torch.from_numpy(row_codes(row))[:n] for row in rows]
        longest = max(item.shape[1] for item in items)
        width = -(-longest // self.frames_multiple) * self.frames_multiple
        codes = torch.full((len(items), len(items[0]), width), NO_FRAME)
        for row, item in zip(codes, items, strict=True):
            row[:, : item.shape[1]] = self._masked(item)
        labels = self.labels([row[self.text_column] for row in rows])
        if self.for_whisper:
            return {"input_features": to_features(codes), "labels": labels}
        mask = (codes[:, 0] != NO_FRAME).long()
        return {"input_values": codes.transpose(1, 2), "attention_mask": mask, "labels": labels}

    def _masked(self, codes: Tensor) -> Tensor:
        codes = codes.clone()  # the data set keeps its own
        for _ in range(int(torch.randint(self.mask_spans + 1, ()))):
            length = int(torch.randint(1, self.mask_frames + 1, ()))
            start = int(torch.randint(max(1, codes.shape[1] - length), ()))
            codes[:, start : start + length] = MISSING
        return codes

    def labels(self, texts: list[str]) -> Tensor:
        """Return the tokens of transcripts (batch, tokens), padded with -100."""
        rows = [torch.tensor(self.tokenizer(text).input_ids) for text in texts]
        if self.for_whisper:  # the model puts its start token there itself
            start = self.tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
            rows = [row[1:] if len(row) and row[0] == start else row for row in rows]
        return torch.nn.utils.rnn.pad_sequence(rows, True, IGNORED)
