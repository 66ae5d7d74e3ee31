"""Leave punctuation and capitals out of Whisper's loss, since transcripts lack them.

Fine-tuned on plain transcripts, Whisper forgets its punctuation, and its word error rate rises
(README.md has the numbers).
"""

from functools import cache

from torch import Tensor
from transformers import WhisperTokenizer

from vqasr.adapters.ctc import IGNORED


class WrittenWords:
    """Find labels that the model wrote too, but with punctuation or capitals.

    Args:
        tokenizer: of the labels.
    """

    def __init__(self, tokenizer: WhisperTokenizer):
        self._end = tokenizer.eos_token_id  # above it are special tokens and timestamps
        self._lower = cache(lambda token: tokenizer.decode([token]).lower())

    def counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Mask labels that do not count.

        Args:
            predicted: (batch, tokens), the most probable token at each position.
            labels: (batch, tokens), padded with -100.

        Returns:
            The labels, with -100 where the model predicts punctuation, or the start of the label in
            another case (" Gill" for the label " g" of " g", "ill", "ian").
        """
        rows = [
            [IGNORED if self._is_better(p, q) else q for p, q in zip(*pair, strict=True)]
            for pair in zip(predicted.tolist(), labels.tolist(), strict=True)
        ]
        return labels.new_tensor(rows)

    def _is_better(self, predicted: int, label: int) -> bool:
        if predicted == label or not 0 <= predicted < self._end:
            return False
        text = self._lower(predicted)
        if not any(letter.isalnum() for letter in text):
            return label != IGNORED
        if not 0 <= label < self._end:
            return False
        target = self._lower(label)
        return bool(target.strip()) and (text.startswith(target) or target.startswith(text))
