"""Transcripts tell words; Whisper also writes punctuation and capitals. The loss leaves those out.

Trained on plain transcripts, Whisper forgets its punctuation, and words get worse meanwhile
(README.md has the numbers).
"""

from torch import Tensor
from transformers import WhisperTokenizer

from vqasr.adapters.ctc import IGNORED


class WrittenWords:
    """Finds the places of a transcript where the model wrote the same, only better.

    Args:
        tokenizer: of the labels.
    """

    def __init__(self, tokenizer: WhisperTokenizer):
        # Text comes before the end of text; what is behind it is special, or a time.
        self._strings = [tokenizer.decode([i]) for i in range(tokenizer.eos_token_id)]

    def counted(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Labels that count.

        Args:
            predicted: (batch, tokens) the likeliest token at each place.
            labels: (batch, tokens), -100 behind the end.

        Returns:
            The labels, with -100 where punctuation was predicted, or the label's beginning in other
            case (" Gill" where the transcript has " g", "ill", "ian").
        """
        rows = [
            [IGNORED if self._is_better(p, q) else q for p, q in zip(*pair, strict=True)]
            for pair in zip(predicted.tolist(), labels.tolist(), strict=True)
        ]
        return labels.new_tensor(rows)

    def _is_better(self, predicted: int, label: int) -> bool:
        if predicted == label or not 0 <= predicted < len(self._strings):
            return False
        text = self._strings[predicted].lower()
        if not any(letter.isalnum() for letter in text):
            return label != IGNORED
        if not 0 <= label < len(self._strings):
            return False
        wanted = self._strings[label].lower()
        return bool(wanted.strip()) and (text.startswith(wanted) or wanted.startswith(text))
