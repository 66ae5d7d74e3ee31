"""Fit the speech head of a trained CTC model, so that it writes nothing without speech.

python recipes/recognition/fit_speech_head.py --model runs/ctc-small/final \
    --config recipes/train_adapter/tiny.en.toml
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse

from vqasr.adapters import VQWav2Vec2ForCTC
from vqasr.training.config import load_train_config
from vqasr.training.speech_head import fit_speech_head
from vqasr.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of the CTC model, changed in place")
    parser.add_argument("--config", required=True, help="TOML with the data and start_from")
    arguments = parser.parse_args()
    config = load_train_config(arguments.config)
    config.output_dir = f"{arguments.model}/speech_head"
    trainer = Trainer(config)
    model = VQWav2Vec2ForCTC.from_pretrained(arguments.model).eval()
    codec = trainer.student.codec.cpu()
    print(
        fit_speech_head(
            codec, model.embedder, trainer.batches, trainer.noise, config.speech_head, config.seed
        )
    )
    model.save_int8(arguments.model)


if __name__ == "__main__":
    main()
