"""Fine-tune Whisper on codes with transformers' Seq2SeqTrainer: adapter, adapter + LoRA, or all.

vqasr tokenize ../shared/speech/train-*.parquet -o runs/codes/train -n 4
vqasr tokenize ../shared/speech/dev-*.parquet -o runs/codes/dev -n 4
python recipes/transcription/train_whisper.py --codes runs/codes/train --dev runs/codes/dev
"""

import vqasr  # noqa: F401 (first: it mends torchaudio where that is broken)

# isort: split
import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from blend import blend, tuned_weights
from datasets import Dataset, concatenate_datasets
from torch.optim import AdamW
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    WhisperTokenizer,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from written_words import WrittenWords

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc import IGNORED
from vqasr.adapters.original_whisper import load_whisper
from vqasr.adapters.whisper import CodesWhisper
from vqasr.data.tokenized import load_tokenized
from vqasr.evaluation.error_rates import word_errors
from vqasr.training.collator import SAME_ORDER, CleanEvaluation, CodesCollator
from vqasr.training.precision import fast_dtype

LORA_TIMES = 10  # LoRA's learning rate is so many times the adapter's
TUNED = ("adapter", "lora", "all")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--codes", required=True, nargs="+", help="folders of vqasr tokenize")
    parser.add_argument("--dev", required=True, help="the same, to stop by")
    parser.add_argument(
        "--written", default=None, type=Path, help="of as_whisper_writes.py: only these rows"
    )
    parser.add_argument("--dev-rows", type=int, default=100, help="of it")
    parser.add_argument("--out", default="runs/whisper", help="checkpoints, adapter/ and whisper/")
    parser.add_argument("--asr", default="tiny.en", help="Whisper to begin with")
    parser.add_argument("--adapter", default="vqasr-base-whisper-tiny.en", help="to begin with")
    parser.add_argument("--tune", choices=TUNED, default="lora")
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--num-quantizers", type=int, nargs="+", default=[1, 2, 2, 4])
    parser.add_argument("--dev-quantizers", type=int, default=2, help="to stop by")
    parser.add_argument("--max-steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=8, help="utterances per device")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--eval-steps", type=int, default=250)
    parser.add_argument("--patience", type=int, default=4, help="evaluations without a better WER")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out = Path(arguments.out)
    adapter = CodesAdapter.from_pretrained(arguments.adapter)
    recogniser = load_whisper(arguments.asr)
    width, made = recogniser.model.config.d_model, adapter.embedder.config.embed_dim
    if width != made:
        parser.error(
            f"--adapter makes embeddings of width {made}, {arguments.asr} reads {width}: train an "
            "adapter of that width first (recipes/train_adapter)"
        )
    model, tuned = make_model(recogniser.model, adapter, arguments.tune, arguments.lora_rank)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{trained / 1e6:.2f} M parameters are trained ({arguments.tune})")
    texts = json.loads(arguments.written.read_text()) if arguments.written else None
    data = [written(load_tokenized(f, adapter.codec_fingerprint), texts) for f in arguments.codes]
    train = concatenate_datasets(data)
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
            train_sampling_strategy="group_by_length", length_column_name="samples",
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
    trainer.model_accepts_loss_kwargs = False  # the loss is a mean: Trainer is not to scale it
    trainer.dev_collator = CodesCollator(tokenizer, True, (arguments.dev_quantizers,))
    before = tuned_weights(model)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)) if out.is_dir() else None)
    found = blend(model, before, lambda: trainer.evaluate()["eval_wer"])
    if not trainer.is_world_process_zero():  # of several processes one writes
        return
    print("WER on dev by share of the training:", found)
    if arguments.tune != "adapter":
        recogniser.model = tuned.merge_and_unload() if arguments.tune == "lora" else tuned
        for part in (recogniser.model, recogniser.feature_extractor, tokenizer):
            part.save_pretrained(out / "whisper")
    # It belongs to this Whisper now, and what was measured before was another adapter's.
    adapter.base_fingerprint, adapter.metrics = recogniser.fingerprint(), {}
    adapter.base_model = arguments.asr if arguments.tune == "adapter" else str(out / "whisper")
    adapter.save_pretrained(out / "adapter")
    log = {"log": trainer.state.log_history, "wer_by_share": found}
    (out / "log.json").write_text(json.dumps(log, indent=1))
    print(
        f"vqasr evaluate --asr {adapter.base_model} --adapter {out / 'adapter'} --data ... "
        "--out ..."
    )


class CodesTrainer(CleanEvaluation, Seq2SeqTrainer):
    """Seq2SeqTrainer for batches of codes, whose loss counts words and not how they are written."""

    words: WrittenWords

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """As Trainer's: of several processes, rows that only fill the last batch do not count."""
        self.gather_function = self.accelerator.gather_for_metrics  # Seq2SeqTrainer's counts them
        return super().evaluation_loop(*arguments, **settings)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Cross-entropy in nats a token that counts; as Trainer's otherwise."""
        outputs = model(**inputs)
        counted = self.words.counted(outputs.logits.argmax(-1), inputs["labels"])
        loss = F.cross_entropy(
            outputs.logits.flatten(0, 1).float(), counted.flatten(), ignore_index=IGNORED
        )
        return (loss, outputs) if return_outputs else loss


def make_model(whisper: Any, adapter: CodesAdapter, tune: str, rank: int) -> tuple[Any, Any]:
    """Whisper over codes with what is to be tuned, and the Whisper in it."""
    whisper.requires_grad_(tune == "all")
    if tune == "lora":
        from peft import LoraConfig, get_peft_model

        # The encoder has something to learn from codes; the decoder's language is to stay.
        targets = r".*encoder\.layers.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
        settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
        whisper = get_peft_model(whisper, settings)
    adapter.embedder.requires_grad_(True)
    inner = whisper.base_model.model if tune == "lora" else whisper
    return CodesWhisper(inner, adapter.embedder), whisper


def make_optimizer(model: CodesWhisper, arguments: argparse.Namespace) -> AdamW:
    """AdamW; beside LoRA, which begins with nothing, the trained adapter takes smaller steps."""
    slower = LORA_TIMES if arguments.tune == "lora" else 1
    embedder = {id(p) for p in model.model.encoder.embedder.parameters()}
    tuned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in tuned if id(p) in embedder], "lr": arguments.learning_rate / slower},
        {"params": [p for p in tuned if id(p) not in embedder]},
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


def written(data: Dataset, texts: dict[str, str] | None = None) -> Dataset:
    """Rows of up to 30 s with a text, in sentence case where it is all upper case.

    Args:
        data: of `vqasr tokenize`.
        texts: id -> text as Whisper would write it; other rows are left out. None: the transcripts.
    """
    if texts is not None:
        data = data.map(lambda row: {"text": texts.get(row["id"], "")})

    def prepare(row: dict) -> dict:
        text = row["text"].strip()
        return {"text": f" {text.capitalize()}" if text.isupper() else f" {text}"}

    return data.filter(lambda r: bool(r["text"]) and r["samples"] <= 30 * 16_000).map(prepare)


def metrics(prediction: EvalPrediction, tokenizer: WhisperTokenizer) -> dict[str, float]:
    texts = []
    for ids in (prediction.label_ids, prediction.predictions):
        ids[ids == IGNORED] = tokenizer.pad_token_id
        texts.append(tokenizer.batch_decode(ids, skip_special_tokens=True))
    errors, words = word_errors(*texts)
    return {"wer": errors / words, "words": words}


if __name__ == "__main__":
    main()
