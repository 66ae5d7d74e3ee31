"""Train a small CTC recogniser that reads codes, or an adapter for an existing one.

vqasr tokenize ../shared/speech/train-*.parquet -o runs/codes/train -n 4 --speeds 0.9,1.0,1.1
vqasr tokenize ../shared/speech/dev-*.parquet -o runs/codes/dev -n 4
python recipes/recognition/train_ctc.py --codes runs/codes/train --dev runs/codes/dev

With --start, training goes on from a model of codes, such as the one that ships:

python recipes/recognition/train_ctc.py --codes runs/codes/train --dev runs/codes/dev \\
    --start ctc-small --transcripts runs/vqasr-base/transcripts.json
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from from_whisper import copy_layers, make_config
from frozen_states import ROW, AfterEncoder, StatesCollator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.optim import AdamW
from transformers import (
    AutoModelForCTC,
    EarlyStoppingCallback,
    EvalPrediction,
    ParakeetTokenizer,
    Trainer,
    TrainingArguments,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2ForCTC,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc import IGNORED, VQWav2Vec2ForCTC, base_fingerprint
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.original_whisper import load_whisper
from vqasr.data.tokenized import load_tokenized, rows_to_train_on
from vqasr.evaluation.error_rates import word_errors
from vqasr.files import replace_file
from vqasr.training.collator import SAME_ORDER, CleanEvaluation, CodesCollator
from vqasr.training.precision import fast_dtype

HEAD_FACTOR = 10  # of an untrained head's learning rate
LETTERS = ["<pad>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]


def main() -> None:
    parser = make_parser()
    parser.add_argument("--codes", required=True, nargs="+", help="folders of `vqasr tokenize`")
    parser.add_argument("--dev", required=True, help="such a folder, for early stopping")
    parser.add_argument(
        "--adapter", default="vqasr-base-whisper-tiny.en", help="initialises the embedder"
    )
    parser.add_argument(
        "--base",
        default=None,
        help="train an adapter for this Wav2Vec2, HuBERT or WavLM with a CTC head (folder or hub "
        "id), which stays unchanged, instead of a new model",
    )
    parser.add_argument(
        "--start",
        default=None,
        help="go on from this model of codes ('ctc-small', folder or hub id) instead of making a "
        "new one; its embedder stays unchanged",
    )
    parser.add_argument(
        "--transcripts",
        default=None,
        help="transcripts.json of `vqasr train` on the same data, for recordings without text",
    )
    parser.add_argument(
        "--least", type=float, default=-0.4, help="mean log-probability of such transcripts"
    )
    parser.add_argument(
        "--num-quantizers", type=int, nargs="+", default=[1, 2, 4, 4],
        help="numbers of codebooks, of which each batch uses one at random",
    )  # fmt: skip
    arguments = parser.parse_args()
    tokenizer: Any = begin(arguments.out, arguments.seed)
    adapter = CodesAdapter.from_pretrained(arguments.adapter)
    if arguments.base is not None:
        base = AutoModelForCTC.from_pretrained(arguments.base, dtype=torch.float32)
        base.requires_grad_(False)
        tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(arguments.base)
    elif arguments.start is not None:
        tokenizer = CTCRecogniser.from_pretrained(arguments.start).tokenizer
    upper = "A" in tokenizer.get_vocab()
    of_rows = ("transcripts", "start", "pieces", "frozen")
    if arguments.buffer_rows and any(getattr(arguments, name) for name in of_rows):
        parser.error(
            f"--buffer-rows reads a stream, whose rows --{', --'.join(of_rows)} cannot use"
        )
    if arguments.buffer_rows and arguments.max_steps < 0:
        parser.error("--buffer-rows reads a stream, whose length is unknown: give --max-steps")
    train = rows_to_train_on(
        arguments.codes, adapter.codec_fingerprint, buffer_rows=arguments.buffer_rows,
        batch_size=arguments.batch_size, seed=arguments.seed,
    )  # fmt: skip
    if arguments.transcripts is not None:
        train = with_transcripts(train, Path(arguments.transcripts), arguments.least)
    train = ctc_rows(train, upper)
    dev = ctc_rows(load_tokenized(arguments.dev, adapter.codec_fingerprint), upper)
    if arguments.pieces:
        tokenizer = make_pieces(train["text"], arguments.pieces)
    collate: Any = CodesCollator(
        tokenizer, False, tuple(arguments.num_quantizers), mask_spans=2, mask_frames=10
    )
    dev_collate: Any = CodesCollator(tokenizer, False, (max(arguments.num_quantizers),))
    if arguments.start is not None:
        model = CTCRecogniser.from_pretrained(arguments.start).model
        model.embedder.requires_grad_(False)
    else:
        if arguments.base is None:
            sizes = arguments.layers, arguments.inner, arguments.hidden_size
            base = make_base(arguments.whisper, *sizes, vocabulary=len(tokenizer))
        embedder = make_embedder(adapter.embedder, base.config.hidden_size)
        model = VQWav2Vec2ForCTC.from_base(
            base, embedder, adapter.codec_fingerprint,
            sinusoids=arguments.base is None and arguments.whisper != "none",
            coarse_layers=arguments.coarse_layers if arguments.base is None else 0,
        )  # fmt: skip
    part: nn.Module = model
    if arguments.frozen:
        if arguments.start is None:  # the embedder's features stay those of the adapter
            model.embedder.speech_head.load_state_dict(adapter.embedder.speech_head.state_dict())
        part, model = AfterEncoder(model), model.eval()
        train, dev = (data.add_column(ROW, range(len(data))) for data in (train, dev))
        out = Path(arguments.out)
        collate = StatesCollator(model, train, collate, out / "train.npy")
        dev_collate = StatesCollator(model, dev, dev_collate, out / "dev.npy")
    trainer = fit(arguments, part, tokenizer, train, dev, collate, dev_collate)
    if arguments.base is None:
        save(trainer, model, tokenizer, arguments.bits)
        CodesFeatureExtractor().save_pretrained(Path(arguments.out) / "final")
    elif trainer.is_world_process_zero():
        trained = CodesAdapter(
            model.embedder, arguments.base, base_fingerprint(base), adapter.codec_fingerprint, "ctc"
        )
        trained.save_pretrained(Path(arguments.out) / "adapter")
    print(trainer.evaluate())


def make_parser() -> argparse.ArgumentParser:
    """Make the options of model and training."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", default="runs/ctc-small", help="checkpoints and final/")
    parser.add_argument(
        "--whisper", default="tiny.en", help="initialises the layers; 'none': random weights"
    )
    parser.add_argument("--hidden-size", type=int, default=192, help="width, if --whisper is none")
    parser.add_argument("--layers", type=int, default=4, help="of the encoder")
    parser.add_argument(
        "--pieces",
        type=int,
        default=0,
        help="of words, made from the transcripts (the most likely ones of a unigram model), which "
        "a new model writes; 0: letters",
    )
    parser.add_argument(
        "--coarse-layers",
        type=int,
        default=0,
        help="of a second encoder at 25 Hz in a new model; letters need 50 Hz, so 0",
    )
    parser.add_argument(
        "--frozen",
        action="store_true",
        help="train the second encoder and the output alone (arXiv 2202.10054), on states of the "
        "first encoder that are computed once: 140 MB on disk for each hour",
    )
    parser.add_argument("--inner", type=int, default=1536, help="width of the feed-forward")
    parser.add_argument(
        "--bits", type=int, default=8, choices=range(4, 9), help="of a weight in final/"
    )
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--max-steps", type=int, default=-1, help="overrides --epochs")
    parser.add_argument("--batch-size", type=int, default=8, help="utterances per device")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--warmup-steps", type=int, default=100)
    parser.add_argument("--eval-steps", type=int, default=500)
    parser.add_argument("--patience", type=int, default=4, help="evaluations without a lower WER")
    parser.add_argument(
        "--buffer-rows",
        type=int,
        default=0,
        help="read the codes as a stream, in the order that a buffer of this size allows: for data "
        "of any size; 0 knows all rows",
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def begin(folder: str | Path, seed: int) -> Wav2Vec2CTCTokenizer:
    """Set the seed, make the folder, and return a tokenizer of letters."""
    set_seed(seed)
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)}
    replace_file(out / "vocab.json", json.dumps(vocabulary).encode())
    return Wav2Vec2CTCTokenizer(out / "vocab.json", bos_token=None, eos_token=None)


def make_pieces(texts: Iterable[str], size: int) -> ParakeetTokenizer:
    """Make a tokenizer of `size` pieces of words (Kudo, arXiv 1804.10959) and the blank."""
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special: Any = LETTERS[:2]
    trainer = trainers.UnigramTrainer(
        vocab_size=size + len(special), special_tokens=special, unk_token=special[1],
        show_progress=False,
    )  # fmt: skip
    pieces.train_from_iterator(texts, trainer)
    return ParakeetTokenizer(tokenizer_object=pieces, pad_token=special[0], unk_token=special[1])


def make_base(
    whisper_name: str,
    layers: int,
    inner: int,
    hidden_size: int = 0,
    dropout: float = 0.0,
    vocabulary: int = len(LETTERS),
) -> Wav2Vec2ForCTC:
    """Make encoder and head, from Whisper's first layers, or "none" with a width of its own."""
    sizes = vocabulary, layers, inner, dropout
    if whisper_name == "none":
        return Wav2Vec2ForCTC(make_config(hidden_size, hidden_size // 48, *sizes))
    whisper = load_whisper(whisper_name).model
    heads = whisper.config.encoder_attention_heads
    base = Wav2Vec2ForCTC(make_config(whisper.config.d_model, heads, *sizes))
    base.lm_head.reset_parameters()  # smaller, as in transformers, it keeps to the blank for longer
    copy_layers(whisper, base)
    return base


def make_embedder(trained: CodeEmbedder, embed_dim: int) -> CodeEmbedder:
    """Copy an embedder; for another width, its last layer is untrained."""
    config = replace(trained.config, embed_dim=embed_dim, num_closing_frames=0)
    embedder = CodeEmbedder(config)
    state = trained.state_dict()
    fitting = {k: state[k] for k, v in embedder.state_dict().items() if state[k].shape == v.shape}
    embedder.load_state_dict(fitting, strict=False)
    embedder.speech_head.reset_parameters()  # its features change; fit_speech_head.py fits it anew
    return embedder


def fit(
    arguments: argparse.Namespace,
    model: nn.Module,
    tokenizer: Any,
    train: Dataset | IterableDataset,
    dev: Dataset,
    collate: Any,
    dev_collate: Any,
) -> Trainer:
    """Train with early stopping, resuming from the last checkpoint; keep the best weights."""
    streamed = isinstance(train, IterableDataset)
    rows = "a stream" if streamed else f"{len(train)} rows"
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {rows}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(arguments.out)
    # Beside an encoder that is trained. What is untrained learns alone if that is frozen.
    head_factor = HEAD_FACTOR if arguments.start is None and not arguments.frozen else 1
    trainer = CodesTrainer(
        model,
        TrainingArguments(
            str(out), num_train_epochs=arguments.epochs, max_steps=arguments.max_steps,
            per_device_train_batch_size=arguments.batch_size, per_device_eval_batch_size=16,
            learning_rate=arguments.learning_rate, warmup_steps=arguments.warmup_steps,
            lr_scheduler_type="cosine", max_grad_norm=1.0,
            bf16=fast_dtype(device) == torch.bfloat16,
            train_sampling_strategy="random" if streamed else "group_by_length",
            length_column_name="samples",
            accelerator_config=SAME_ORDER,
            eval_strategy="steps", eval_steps=arguments.eval_steps, save_steps=arguments.eval_steps,
            save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="wer",
            greater_is_better=False, logging_steps=50, seed=arguments.seed, report_to="none",
            use_cpu=device.type == "cpu",
            remove_unused_columns=False, label_names=["labels"],
        ),
        train_dataset=train, eval_dataset=dev, data_collator=collate,
        compute_metrics=lambda prediction: metrics(prediction, tokenizer),
        preprocess_logits_for_metrics=lambda logits, _: logits.argmax(-1),
        callbacks=[EarlyStoppingCallback(arguments.patience)],
        optimizers=(make_optimizer(model, arguments.learning_rate, head_factor), None),
    )  # fmt: skip
    trainer.dev_collator = dev_collate
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)))
    return trainer


def save(trainer: Trainer, model: VQWav2Vec2ForCTC, tokenizer: Any, bits: int) -> None:
    """Write model (integers), tokenizer and training log to final/."""
    if not trainer.is_world_process_zero():  # only one of several processes writes
        return
    folder = Path(str(trainer.args.output_dir)) / "final"
    model.save_int8(folder, bits)
    tokenizer.save_pretrained(folder)
    (folder / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1))


def make_optimizer(
    model: nn.Module, learning_rate: float, head_factor: float = HEAD_FACTOR
) -> AdamW:
    """Make AdamW; an untrained head learns faster, so that it does not spoil the layers below."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in named if "lm_head." in name]
    rest = [p for name, p in named if "lm_head." not in name]
    groups: list[dict[str, Any]] = [{"params": rest}]
    if head:
        groups.insert(0, {"params": head, "lr": head_factor * learning_rate})
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


class CodesTrainer(CleanEvaluation, Trainer):
    """Train on batches of codes."""


def with_transcripts(data: Dataset, path: Path, least: float) -> Dataset:
    """Give rows without text the transcripts that `vqasr train` made, where they are sure."""
    texts, speeds = list(data["text"]), len(set(data["speed"]))
    for number, (text, score) in json.loads(path.read_text())["transcripts"].items():
        for row in range(speeds * int(number), speeds * (int(number) + 1)):
            if row >= len(texts) or texts[row]:
                raise SystemExit(
                    f"{path}: recording {number} is not one without text in --codes. Tokenize the "
                    "data of that run, in its order."
                )
            texts[row] = text if score >= least else ""
    return data.remove_columns("text").add_column("text", texts)


def ctc_rows(data: Any, upper: bool = False) -> Any:
    """Keep rows of up to 30 s whose text has only letters, few enough for CTC at 50 Hz."""

    def prepare(row: dict) -> dict:
        text = " ".join(re.findall(r"[a-z']+", (row["text"] or "").lower()))
        return {"text": text.upper() if upper else text}

    def is_usable(row: dict) -> bool:
        no_digits = re.search(r"\d", row["text"] or "") is None
        return no_digits and bool(row["text"]) and row["samples"] <= 30 * 16_000

    def fits(row: dict) -> bool:
        text = row["text"]
        repeats = sum(a == b for a, b in itertools.pairwise(text))  # CTC puts blanks between
        return bool(text) and len(text) + repeats < row["samples"] / 320

    return data.filter(is_usable).map(prepare).filter(fits)


def metrics(prediction: EvalPrediction, tokenizer: Any) -> dict[str, float]:
    """Compute the word error rate."""
    ids: Any = prediction.predictions
    labels: Any = prediction.label_ids
    ids = ids[0] if isinstance(ids, tuple) else ids
    for tokens in (ids, labels):
        tokens[tokens == IGNORED] = tokenizer.pad_token_id
    references = tokenizer.batch_decode(labels, group_tokens=False)
    errors, words = word_errors(references, tokenizer.batch_decode(ids))
    return {"wer": errors / words, "words": words}


if __name__ == "__main__":
    main()
