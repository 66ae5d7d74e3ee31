"""An adapter tuned for the frozen codec, half of the steps as it is used: without padding."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from training_helpers import SHORT_RUN, write_one_clip
from vqasr.adapters.codes_adapter import CodesAdapter
from vqasr.adapters.whisper import CodesWhisper, to_features

from vqasr.errors import TrainingError
from vqasr.training.batches import Batch
from vqasr.training.closing import closed_losses
from vqasr.training.config import LossConfig, load_train_config
from vqasr.training.judge import pad_clips
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.trainer import StageTrainer

HEAD = """
output_dir = "{out}"
frozen_codec = "vqasr-base"
start_from = "{start}"
"""
CONFIG = (
    HEAD
    + SHORT_RUN
    + """
[loss]
end = 0.1
decoder_from = 0.0
[levels]
2 = 1
{adapter}
"""
)
CLOSES = "[adapter]\nnum_closing_frames = 50"
SHIPPED = "vqasr-base-whisper-tiny.en"


@torch.no_grad()
@pytest.mark.usefixtures("without_bfloat16")
def test_what_is_trained_is_what_reads(recogniser, codec, clips) -> None:
    """The losses without padding are those of the model that transcribes without padding."""
    base, embedder = recogniser.recogniser, recogniser.embedder
    teacher = WhisperTeacher(base.model, base.tokenizer, torch.device("cpu"))
    texts = [clips[0].text, "", clips[2].text]
    samples, mask = pad_clips([clip.samples for clip in clips[:3]])
    samples = F.pad(samples, (0, 16_000))
    batch = Batch(samples, samples, mask.sum(1), texts)
    levels = torch.tensor([2, 2, 2])

    seed = next(  # of which no recording goes on behind the speech
        s for s in range(100)
        if all(torch.randint(16_000, (2, 3), generator=torch.Generator().manual_seed(s))[0] % 2)
    )  # fmt: skip
    parts = closed_losses(
        codec, embedder, teacher, batch, levels, LossConfig(end=1.0),
        torch.Generator().manual_seed(seed),
    ).parts  # fmt: skip
    latents, exists = codec.encode_latents(samples, batch.sample_mask)
    codes = codec.quantizer.encode(latents, 2).masked_fill(~exists[:, None], -1)
    model = CodesWhisper(base.model, embedder, padded=False)
    ends, said = [], []
    for i in (0, 2):
        tokens, wanted = teacher.tokens([texts[i]], codes.device, end=True)
        logits = model(
            input_features=to_features(codes[i : i + 1]), decoder_input_ids=tokens
        ).logits
        nats = F.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")[wanted[0, :-1]]
        ends.append(nats[-1:]), said.append(nats[:-1])
    torch.testing.assert_close(parts["end"], torch.cat(ends).mean(), rtol=0.03, atol=2e-3)
    torch.testing.assert_close(parts["transcript"], torch.cat(said).mean(), rtol=0.03, atol=2e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_one_clip(tmp_path_factory.mktemp("tuning"))


def write_config(data: Path, out: Path, start: str = SHIPPED, adapter: str = CLOSES) -> Path:
    path = data.parent / "tune.toml"
    path.write_text(CONFIG.format(out=out, data=data, start=start, adapter=adapter))
    return path


def test_tuning_changes_the_adapter_alone(data, tmp_path) -> None:
    StageTrainer(load_train_config(write_config(data, tmp_path))).run()
    assert not (tmp_path / "codec").exists()
    tuned = CodesAdapter.from_pretrained(tmp_path / "adapter")
    before = CodesAdapter.from_pretrained(SHIPPED)
    assert tuned.codec_fingerprint == before.codec_fingerprint
    old, new = before.embedder.state_dict(), tuned.embedder.state_dict()
    assert old.keys() == new.keys()
    for name in ("closing_frames", "to_embedding.weight", "from_latent.weight"):
        difference = (new[name] - old[name]).norm() / old[name].norm()
        assert 0 < difference < 0.2, name  # it begins with what there was
    assert all(new[n].equal(old[n]) for n in old if n.startswith("quantizer."))


def test_what_cannot_be_tuned(data, tmp_path) -> None:
    with pytest.raises(TrainingError, match="num_closing_frames = 50"):
        load_train_config(write_config(data, tmp_path, adapter=""))
    other = CodesAdapter.from_pretrained(SHIPPED)
    other.codec_fingerprint = b"\x01" * 6
    other.save_pretrained(tmp_path / "other")
    for start in (tmp_path / "other", tmp_path / "nothing"):
        trainer = StageTrainer(load_train_config(write_config(data, tmp_path / "out", str(start))))
        with pytest.raises(TrainingError, match="no adapter for this codec"):
            trainer.run()
