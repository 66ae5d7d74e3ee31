"""Fine-tune Whisper on codes with transformers' Seq2SeqTrainer: adapter, adapter + LoRA, or all.

vqasr tokenize ../shared/speech/train-*.parquet -o runs/codes/train -n 4
vqasr tokenize ../shared/speech/dev-*.parquet -o runs/codes/dev -n 4
python recipes/transcription/train_whisper.py --codes runs/codes/train --dev runs/codes/dev
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from blend import blend, tuned_weights
from torch.optim import AdamW
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from written_words import WrittenWords

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc import IGNORED
from vqasr.adapters.original_whisper import load_whisper
from vqasr.adapters.whisper import VQWhisperForConditionalGeneration
from vqasr.data.tokenized import load_tokenized, rows_to_train_on
from vqasr.evaluation.error_rates import word_errors
from vqasr.training.collator import SAME_ORDER, CleanEvaluation, CodesCollator
from vqasr.training.precision import fast_dtype

LORA_FACTOR = 10  # LoRA's learning rate / the adapter's
TUNED = ("adapter", "lora", "all")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--codes", required=True, nargs="+", help="folders of `vqasr tokenize`")
    parser.add_argument("--dev", required=True, help="such a folder, for early stopping")
    parser.add_argument(
        "--written", default=None, type=Path, help="texts from as_whisper_writes.py"
    )
    parser.add_argument("--dev-rows", type=int, default=100, help="of --dev")
    parser.add_argument("--out", default="runs/whisper", help="checkpoints, adapter/ and whisper/")
    parser.add_argument("--asr", default="tiny.en", help="Whisper to start from")
    parser.add_argument("--adapter", default="vqasr-base-whisper-tiny.en", help="to start from")
    parser.add_argument("--tune", choices=TUNED, default="lora", help="weights to train")
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument(
        "--num-quantizers", type=int, nargs="+", default=[1, 2, 2, 4],
        help="numbers of codebooks, of which each batch uses one at random",
    )  # fmt: skip
    parser.add_argument("--dev-quantizers", type=int, default=2, help="codebooks used on --dev")
    parser.add_argument("--max-steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=8, help="utterances per device")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--eval-steps", type=int, default=250)
    parser.add_argument("--patience", type=int, default=4, help="evaluations without a lower WER")
    parser.add_argument(
        "--buffer-rows",
        type=int,
        default=0,
        help="read the codes as a stream, in the order that a buffer of this size allows: for data "
        "of any size; 0 knows all rows",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(arguments.out)
    adapter = CodesAdapter.from_pretrained(arguments.adapter)
    recogniser = load_whisper(arguments.asr)
    width, embed_dim = recogniser.model.config.d_model, adapter.embedder.config.embed_dim
    if width != embed_dim:
        parser.error(
            f"--adapter makes embeddings of width {embed_dim}, but {arguments.asr} reads {width}. "
            "Train an adapter of that width first (recipes/train_adapter)."
        )
    model, lora = make_model(recogniser.model, adapter, arguments.tune, arguments.lora_rank)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{trained / 1e6:.2f} M parameters are trained ({arguments.tune})")
    texts = json.loads(arguments.written.read_text()) if arguments.written else None
    train = rows_to_train_on(
        arguments.codes, adapter.codec_fingerprint, buffer_rows=arguments.buffer_rows,
        batch_size=arguments.batch_size, seed=arguments.seed,
    )  # fmt: skip
    train = written(train, texts)
    dev = written(load_tokenized(arguments.dev, adapter.codec_fingerprint))
    dev = dev.select(range(min(arguments.dev_rows, len(dev))))
    tokenizer = recogniser.tokenizer
    trainer = CodesTrainer(
        model,
        Seq2SeqTrainingArguments(
            str(out), max_steps=arguments.max_steps, learning_rate=arguments.learning_rate,
            per_device_train_batch_size=arguments.batch_size, per_device_eval_batch_size=8,
            warmup_steps=100, lr_scheduler_type="cosine", max_grad_norm=1.0,
            bf16=fast_dtype(device) == torch.bfloat16,
            train_sampling_strategy="random" if arguments.buffer_rows else "group_by_length",
            length_column_name="samples",
            accelerator_config=SAME_ORDER,
            eval_on_start=True, eval_strategy="steps",
            eval_steps=arguments.eval_steps, save_steps=arguments.eval_steps,
            save_total_limit=2, load_best_model_at_end=True, metric_for_best_model="wer",
            greater_is_better=False, predict_with_generate=True, generation_num_beams=1,
            logging_steps=50, seed=arguments.seed, report_to="none",
            use_cpu=device.type == "cpu", remove_unused_columns=False,
            label_names=["labels"],
        ),
        train_dataset=train, eval_dataset=dev,
        data_collator=CodesCollator(
            tokenizer, True, tuple(arguments.num_quantizers), mask_spans=2, mask_frames=6
        ),
        compute_metrics=lambda prediction: metrics(prediction, tokenizer),
        callbacks=[EarlyStoppingCallback(arguments.patience)],
        optimizers=(make_optimizer(model, arguments), None),
    )  # fmt: skip
    trainer.words = WrittenWords(tokenizer)
    trainer.model_accepts_loss_kwargs = False  # the loss is a mean, which Trainer must not scale
    trainer.dev_collator = CodesCollator(tokenizer, True, (arguments.dev_quantizers,))
    before = tuned_weights(model)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    rates = blend(model, before, lambda: trainer.evaluate()["eval_wer"])
    if not trainer.is_world_process_zero():  # only one of several processes writes
        return
    print("WER on dev by share of the trained weights:", rates)
    if arguments.tune != "adapter":
        if lora is not None:
            lora.merge_and_unload()  # into the weights that recogniser.model shares
        for part in (recogniser.model, recogniser.feature_extractor, tokenizer):
            part.save_pretrained(out / "whisper")
    # The adapter belongs to this Whisper now; its old metrics are no longer true.
    adapter.base_fingerprint, adapter.metrics = recogniser.fingerprint(), {}
    adapter.base_model = arguments.asr if arguments.tune == "adapter" else str(out / "whisper")
    adapter.save_pretrained(out / "adapter")
    log = {"log": trainer.state.log_history, "wer_by_share": rates}
    (out / "log.json").write_text(json.dumps(log, indent=1))
    print(
        f"vqasr evaluate --asr {adapter.base_model} --adapter {out / 'adapter'} --data ... "
        "--out ..."
    )


class CodesTrainer(CleanEvaluation, Seq2SeqTrainer):
    """Train on batches of codes; the loss ignores punctuation and capitals."""

    words: WrittenWords

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """Evaluate without the rows that only fill the last batch of several processes."""
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*arguments, **settings)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the cross-entropy in nats per counted token."""
        outputs = model(**inputs)
        counted = self.words.counted(outputs.logits.argmax(-1), inputs["labels"])
        loss = F.cross_entropy(
            outputs.logits.flatten(0, 1).float(), counted.flatten(), ignore_index=IGNORED
        )
        return (loss, outputs) if return_outputs else loss


def make_model(
    whisper: WhisperForConditionalGeneration, adapter: CodesAdapter, tune: str, rank: int
) -> tuple[VQWhisperForConditionalGeneration, Any]:
    """Return a model of codes that shares weights with the Whisper, and its LoRA, if any."""
    whisper.requires_grad_(tune == "all")
    model = VQWhisperForConditionalGeneration.from_base(
        whisper, adapter.embedder, adapter.codec_fingerprint
    )
    lora = None
    if tune == "lora":
        from peft import LoraConfig, get_peft_model

        # Only the encoder has to adapt to codes; the decoder's language stays.
        targets = r".*encoder\.layers.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
        settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
        lora = get_peft_model(model, settings)  # changes `model` in place
    adapter.embedder.requires_grad_(True)
    return model, lora


def make_optimizer(
    model: VQWhisperForConditionalGeneration, arguments: argparse.Namespace
) -> AdamW:
    """Make AdamW; the adapter, already trained, learns more slowly than LoRA, which starts at 0."""
    slower = LORA_FACTOR if arguments.tune == "lora" else 1
    embedder = {id(p) for p in model.model.encoder.embedder.parameters()}
    tuned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in tuned if id(p) in embedder], "lr": arguments.learning_rate / slower},
        {"params": [p for p in tuned if id(p) not in embedder]},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


def written(data: Any, texts: dict[str, str] | None = None) -> Any:
    """Keep rows of up to 30 s with a text; change upper case to sentence case.

    Args:
        data: of `load_tokenized` or `stream_tokenized`.
        texts: id -> text that replaces the transcript; other rows are dropped. None keeps all.
    """
    if texts is not None:
        data = data.map(lambda row: {"text": texts.get(row["id"], "")})

    def prepare(row: dict) -> dict:
        text = row["text"].strip()
        return {"text": f" {text.capitalize()}" if text.isupper() else f" {text}"}

    return data.filter(lambda r: bool(r["text"]) and r["samples"] <= 30 * 16_000).map(prepare)


def metrics(prediction: EvalPrediction, tokenizer: WhisperTokenizer) -> dict[str, float]:
    """Compute the word error rate."""
    texts = []
    arrays: Any = (prediction.label_ids, prediction.predictions)
    for ids in arrays:
        ids[ids == IGNORED] = tokenizer.pad_token_id
        texts.append(tokenizer.batch_decode(ids, skip_special_tokens=True))
    errors, words = word_errors(*texts)
    return {"wer": errors / words, "words": words}


if __name__ == "__main__":
    main()
