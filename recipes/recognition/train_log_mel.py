"""Train a twin of ctc-small that reads log-mel instead of codes, with the same encoder.

python recipes/recognition/train_log_mel.py --train ../shared/speech/train-*.parquet \\
    --dev ../shared/speech/dev-*.parquet --test ../shared/speech/test_*.parquet

Blocks of 40 ms of log-mel (4 x 80 values) take the place of the codes' latents.
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor
from train_ctc import begin, ctc_rows, fit, make_base, make_parser, save
from transformers.modeling_outputs import CausalLMOutput

from vqasr.adapters.ctc import VQWav2Vec2ForCTC
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.audio.acoustics import change_speed
from vqasr.codec.mel import clip_log_mel
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.error_rates import word_errors
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.collator import CodesCollator

BLOCK = 4
GAP = 1e-3  # of masked frames; all zero would mean that there is no frame


class LogMelCTC(VQWav2Vec2ForCTC):
    """Recognise characters in log-mel blocks (batch, 320, frames)."""

    def forward(self, input_values: Tensor, labels: Tensor | None = None) -> CausalLMOutput:
        return self.read(input_values, labels)


@dataclass
class LogMelCollator(CodesCollator):
    """Make batches of log-mel blocks from rows of audio and text, masked as in `CodesCollator`.

    Attributes:
        speeds: each row is played at one of these at random.
    """

    speeds: tuple[float, ...] = (1.0,)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        items = [self._gaps(blocks(change_speed(row_audio(row), self._speed()))) for row in rows]
        width = -(-max(map(len, items)) // self.frames_multiple) * self.frames_multiple
        values = torch.stack([F.pad(item, (0, 0, 0, width - len(item))) for item in items])
        labels = self._labels([row[self.text_column] for row in rows])
        return {"input_values": values.transpose(1, 2), "labels": labels}

    def _speed(self) -> float:
        return self.speeds[int(torch.randint(len(self.speeds), ()))]

    def _gaps(self, item: Tensor) -> Tensor:
        gaps = self._masked(torch.zeros(1, len(item), dtype=torch.long))[0] != 0
        return item.masked_fill(gaps[:, None], GAP)


def blocks(samples: np.ndarray) -> Tensor:
    """Compute (frames, 320) log-mel blocks of (samples,) float32."""
    mel = clip_log_mel(torch.from_numpy(samples)[None])[0]
    return F.pad(mel, (0, 0, 0, -len(mel) % BLOCK)).reshape(-1, BLOCK * mel.shape[1])


def main() -> None:
    parser = make_parser(__doc__.splitlines()[0], "runs/ctc-log-mel")
    parser.add_argument("--train", required=True, nargs="+", help="parquet with audio and text")
    parser.add_argument("--dev", required=True, help="the same, for early stopping")
    parser.add_argument("--test", nargs="*", default=[], help="the same, to measure WER on")
    arguments = parser.parse_args()
    tokenizer = begin(arguments)
    base = make_base(arguments)
    sizes = CodeEmbedderConfig(1, 2, BLOCK * 80, base.config.hidden_size)
    model = LogMelCTC.from_base(
        base, CodeEmbedder(sizes), b"\0" * 6, sinusoids=arguments.whisper != "none"
    )
    train = LogMelCollator(
        tokenizer, False, (1,), mask_spans=2, mask_frames=10, speeds=(0.9, 1.0, 1.1)
    )
    dev_collate = LogMelCollator(tokenizer, False, (1,))
    train_rows, dev_rows = rows_of(arguments.train), rows_of([arguments.dev])
    trainer = fit(arguments, model, tokenizer, train_rows, dev_rows, train, dev_collate)
    save(trainer, tokenizer)
    print(trainer.evaluate())
    model.eval()
    for path in arguments.test:
        data = load_speech(path)
        texts = []
        for row in data:
            with torch.inference_mode():
                logits = model.read(blocks(row_audio(row)).T[None]).logits
            texts.append(tokenizer.decode(logits[0].argmax(-1)))
        errors, words = word_errors(list(data["text"]), texts)
        print(json.dumps({"set": Path(path).name.split("-")[0], "wer": round(errors / words, 4)}))


def rows_of(files: list[str]) -> Dataset:
    """Load the rows that CTC can be trained on, with their length."""
    data = load_speech(files)
    return ctc_rows(data.map(lambda row: {"samples": round(row["seconds"] * SAMPLING_RATE_HZ)}))


if __name__ == "__main__":
    main()
