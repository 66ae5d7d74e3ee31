"""The last thing that `vqasr train` does: the codec's prior, and the rates that it gives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vqasr.code_prior import CodePrior
from vqasr.data import row_audio
from vqasr.training.prices import price_points
from vqasr.training.prior_trainer import PriorTrainer

if TYPE_CHECKING:
    from vqasr.training.trainer import StageTrainer

# Utterances of dev on which the rates of variable depth are measured.
RATE_CLIPS = 60

logger = logging.getLogger("vqasr.train")


def finish_prior(trainer: StageTrainer) -> None:
    """Train a prior for the finished codec, or go on with the one of before, and write it.

    Nothing is written where the configuration asks for neither.
    """
    config, codec = trainer.config, trainer.codec
    prior: CodePrior | None = None
    if config.frozen_prior:
        prior = CodePrior.from_pretrained(config.frozen_prior).of_codec(codec.fingerprint())
    steps = config.prior.priced_steps if config.frozen_prior else config.prior.steps
    if steps and not config.frozen_codec:
        prior = PriorTrainer(
            config.prior, codec, trainer.train_data, trainer.dev, trainer.augment, trainer.folder,
            config.seed, trainer.device, prior,
        ).run()  # fmt: skip
    if prior is None:
        return
    prior.save_pretrained(trainer.folder / "prior")
    if codec.config.variable_depth:
        count = min(RATE_CLIPS, len(trainer.dev))
        clips = [row_audio(trainer.dev[i]) for i in range(count)]
        points = price_points(codec, prior, prior.config.num_modelled, clips)
        codec.config.price_points = points
        codec.config.save_pretrained(trainer.folder / "codec")
        trainer.log({"stage": "rates", "points": points})
    logger.info("the code prior is in %s", trainer.folder / "prior")
