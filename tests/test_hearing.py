"""The encoder alone, trained on codes as they are chosen."""

from pathlib import Path

import pytest
import torch
from training_helpers import SHORT_RUN, write_one_clip
from vqasr.adapters.codes_adapter import CodesAdapter

from vqasr import VQCodecModel
from vqasr.assets import CLIPS, resolve_codec, resolve_prior
from vqasr.audio import read_audio
from vqasr.code_choice import CodeChoice
from vqasr.code_prior import CodePrior
from vqasr.encoding import audio_to_stream
from vqasr.errors import TrainingError
from vqasr.prior_config import STOP
from vqasr.stream import stream_from_bytes
from vqasr.training.batches import Batch
from vqasr.training.config import LossConfig, load_train_config
from vqasr.training.hearing import UsualCodes, hearing_losses
from vqasr.training.judge import pad_clips
from vqasr.training.prior_network import PriorNetwork
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.trainer import StageTrainer

HEAD = """
output_dir = "{out}"
start_from = "{start}"
frozen_prior = "{start}/prior"
save_every = 1
"""
CONFIG = (
    HEAD
    + SHORT_RUN
    + """
[levels]
2 = 1
[codec]
variable_depth = {variable_depth}
base_dim = 12
[adapter]
num_closing_frames = 50
"""
)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A folder as a finished run leaves it, of what ships."""
    folder = tmp_path_factory.mktemp("hearing")
    (folder / "codec").symlink_to(resolve_codec("vqasr-base"))
    (folder / "adapter").symlink_to(CLIPS.parent / "vqasr-base-whisper-tiny.en")
    (folder / "prior").symlink_to(resolve_prior("vqasr-base-prior"))
    write_one_clip(folder)
    return folder


def write_config(start: Path, out: Path, variable_depth: str = "true", more: str = "") -> Path:
    path = out / "hearing.toml"
    data = start / "speech.parquet"
    text = CONFIG.format(out=out, start=start, data=data, variable_depth=variable_depth)
    path.write_text(text + more)
    return path


def test_only_the_encoder_learns(start, tmp_path) -> None:
    StageTrainer(load_train_config(write_config(start, tmp_path))).run()
    before = VQCodecModel.from_pretrained(start / "codec")
    after = VQCodecModel.from_pretrained(tmp_path / "codec")
    changed = {
        name.split(".")[0]
        for name, tensor in after.state_dict().items()
        if not tensor.equal(before.state_dict()[name])
    }
    assert changed == {"encoder"}
    old, new = (CodesAdapter.from_pretrained(p / "adapter") for p in (start, tmp_path))
    assert new.codec_fingerprint == after.fingerprint() != before.fingerprint()
    kept = old.embedder.state_dict()
    for name, tensor in new.embedder.state_dict().items():
        assert tensor.equal(kept[name]) or name.startswith("speech_head."), name
    # The prior is that of before, and reads what the new encoder says.
    prior = CodePrior.from_pretrained(tmp_path / "prior")
    known = CodePrior.from_pretrained(start / "prior")
    assert all((prior.tensors[n] == known.tensors[n]).all() for n in known.tensors)
    samples = read_audio(CLIPS / "clip01_af_heart.flac")
    data = audio_to_stream(after, samples, 4, prior, bit_price=2.0)
    assert stream_from_bytes(data, after.fingerprint(), prior=prior).samples == len(samples)
    rates = [rate for rate, _, _ in after.config.price_points]
    assert rates == sorted(rates)
    assert rates[0] < 0.5 * rates[-1]


def test_the_prior_goes_on_with_the_new_codes(start, tmp_path) -> None:
    known = CodePrior.from_pretrained(start / "prior")
    network = PriorNetwork(known.config)
    network.go_on_from(known)
    assert network.to_prior().fingerprint == known.fingerprint
    more = "[prior]\npriced_steps = 2\npasses = 1\nbatch_chunks = 1\nlearning_rate = 0.2\n"
    config = load_train_config(write_config(start, tmp_path, more=more))
    config.joint.steps = 0
    StageTrainer(config).run()
    prior = CodePrior.from_pretrained(tmp_path / "prior")
    assert prior.config == known.config  # the codec has not changed
    assert prior.fingerprint != known.fingerprint
    old, new = known.tensors["head.0.out.weight"], prior.tensors["head.0.out.weight"]
    assert 0 < abs(new.astype(int) - old).mean() < 2


def test_codes_are_those_that_are_chosen(codec, clips) -> None:
    prior = CodePrior.from_pretrained("vqasr-base-prior")
    usual = UsualCodes(codec, prior, [clip.samples for clip in clips[:2]])
    samples, sample_mask = pad_clips([clip.samples for clip in clips[:3]])
    with torch.no_grad():
        latents, mask = codec.encode_latents(samples, sample_mask)
    codes = usual(latents, mask, torch.tensor([8, 3, 1]), torch.tensor([0.4, 1.0, 1.0]))
    assert codes.shape == (3, codec.config.num_quantizers, mask.shape[1])
    assert codes[~mask[:, None].expand_as(codes)].eq(-1).all()
    frames = int(mask[0].sum())
    price = usual._fineness.price(0.4)
    chosen = CodeChoice(codec, 4, price, prior).choose(latents[0, :frames])
    assert codes[0, :4, :frames].equal(chosen)
    assert codes[0, 4:, :frames].eq(STOP).all()
    for i, n in ((1, 3), (2, 1)):
        frames = int(mask[i].sum())
        nearest = codec.quantizer.encode(latents[i : i + 1], n)[0, :, :frames]
        assert codes[i, :n, :frames].equal(nearest)
        assert codes[i, n:, :frames].eq(STOP).all()


@pytest.mark.usefixtures("without_bfloat16")
def test_what_codes_do_not_say_has_no_gradient(recogniser, codec, clips, monkeypatch) -> None:
    base = recogniser.recogniser
    teacher = WhisperTeacher(base.model, base.tokenizer, torch.device("cpu"))
    prior = CodePrior.from_pretrained("vqasr-base-prior")
    usual = UsualCodes(codec, prior, [clips[0].samples])
    samples, mask = pad_clips([clip.samples for clip in clips[:2]])
    batch = Batch(samples, samples, mask.sum(1), [clip.text for clip in clips[:2]])
    with torch.no_grad():
        latents, frames = codec.encode_latents(samples, mask)
    latents.requires_grad_(True)
    monkeypatch.setattr(codec, "encode_latents", lambda *_: (latents, frames))
    losses = hearing_losses(
        codec, recogniser.embedder, teacher, batch, torch.tensor([2, 4]), torch.ones(2), usual,
        LossConfig(),
    )  # fmt: skip
    losses.total.backward()
    base_dim = codec.config.base_dim
    assert latents.grad[:, :, :base_dim][frames].abs().min(0).values.max() > 0
    assert latents.grad[0, :, base_dim:].abs().max() == 0  # two codebooks say nothing of these
    assert latents.grad[1, :, base_dim:][frames[1]].abs().max() > 0
    assert {"stem", "layers", "reconstruction", "commitment", "decoder"} <= set(losses.parts)


def test_what_cannot_be(start, tmp_path) -> None:
    with pytest.raises(TrainingError, match="variable_depth"):
        load_train_config(write_config(start, tmp_path, variable_depth="false"))
    with pytest.raises(TrainingError, match="0 steps"):
        load_train_config(write_config(start, tmp_path, more="[gaps]\nsteps = 1\n"))
    path = write_config(start, tmp_path)
    path.write_text(path.read_text().replace("2 = 1", "0 = 1\n2 = 1"))
    with pytest.raises(TrainingError, match="no quantizer"):
        load_train_config(path)
