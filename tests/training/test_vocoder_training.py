"""The training of a vocoder: its losses, its crops, and a short run that resumes."""

import json

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import load_file
from training_helpers import training_data

from vqasr.audio.pitch import fill_pitch, track_pitch
from vqasr.codec.vocoder import Vocoder
from vqasr.compression.compress import encode_audio
from vqasr.errors import TrainingError
from vqasr.grid import HOP_LENGTH
from vqasr.training import discriminators
from vqasr.training.augment import Augment
from vqasr.training.batches import TAIL_S, WIDTHS_S, Batches
from vqasr.training.coded_recordings import CodedRecordings
from vqasr.training.config import NO_CHANGE, DataConfig, TrainConfig, load_any_config
from vqasr.training.discriminators import Adversary
from vqasr.training.loudness import loudness_distance
from vqasr.training.recordings import Recordings
from vqasr.training.spectral_losses import WINDOWS, magnitudes, spectral_losses
from vqasr.training.vocoder_trainer import VocoderTrainer, lost_pieces

CONFIG = """
output_dir = "{folder}/{out}"
train = ["{folder}/speech.parquet"]
dev = ["{folder}/speech.parquet"]
dev_utterances = 2
batch_crops = 4
crop_frames = {crop}
lost = 0.5
[levels]
2 = 1
8 = 1
[schedule]
steps = {steps}
learning_rate = 3e-3
warmup_steps = 2
save_every = 5
log_every = 5
[vocoder]
hidden_size = 32
num_layers = 2
fine_hidden_size = 24
num_fine_layers = 1
"""


def write(folder, out="run", steps=10, crop=30):
    path = folder / f"{out}.toml"
    path.write_text(CONFIG.format(folder=folder, out=out, steps=steps, crop=crop))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return training_data(tmp_path_factory.mktemp("vocoder"))


def test_losses() -> None:
    time = torch.arange(8000) / 16_000
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * time)[None]
    for length in WINDOWS:  # a sine has a quarter of the window's length, if its bin is its own
        assert 0.3 < float(magnitudes(tone, length).max()) / (0.25 * length) / 0.5 < 1.1
    assert all(value == 0 for value in spectral_losses(tone, tone).values())
    near, far = spectral_losses(0.9 * tone, tone), spectral_losses(torch.zeros(1, 8000), tone)
    assert all(0 < near[name] < far[name] for name in near)
    assert float(far["convergence"]) == pytest.approx(1.0, abs=0.02)
    silence = torch.zeros(1, 8000, requires_grad=True)
    sum(spectral_losses(silence, torch.zeros(1, 8000)).values()).backward()
    assert bool(silence.grad.isfinite().all())


def test_loudness(clips) -> None:
    """Noise counts by its power; gain, and the gain of a band, hardly; silence has gradients."""
    speech = torch.from_numpy(clips[0].samples[:32_000])[None]
    noise = torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0)) * speech.std()
    filtered = torchaudio.functional.highpass_biquad(speech, 16_000, 300.0)
    others = [speech, 0.5 * speech, filtered, speech + 0.03 * noise, speech + 0.3 * noise]
    same, quieter, band, less, more = (float(loudness_distance(o, speech)) for o in others)
    assert same < 1e-3
    assert quieter == pytest.approx(same, abs=1e-3)
    assert same < band < 0.3 * less < 0.3 * more
    # Noise that is added disturbs more than speech that is missing.
    assert float(loudness_distance(speech, speech + 0.03 * noise)) < 0.8 * less
    silence = torch.zeros(1, 32_000, requires_grad=True)
    loudness_distance(silence, speech).sum().backward()
    assert bool(silence.grad.isfinite().all())


def test_lost_pieces() -> None:
    lost = lost_pieces(np.random.default_rng(0), 1000, 50, 0.2)
    assert 0.15 < lost.any(1).mean() < 0.25
    assert (np.diff(lost.astype(int), axis=1) == 1).sum(1).max() == 1  # one piece each
    assert lost.sum(1).max() <= 25


def test_crops_fit_their_codes(folder) -> None:
    trainer = VocoderTrainer(load_any_config(write(folder)))
    crops = trainer.train.crops(np.random.default_rng(0), 5, 30)
    assert crops.codes.shape == (8, 5, 30)
    assert crops.samples.shape == (5, 30 * HOP_LENGTH)
    assert crops.pitch_hz.shape == crops.voiced.shape == (5, 120)
    whole = [*trainer.train.clips()]
    for item in range(5):
        places = [
            (clip, f)
            for clip in whole
            for f in range(clip.codes.shape[2] - 29)
            if torch.equal(clip.codes[:, 0, f : f + 30], crops.codes[:, item])
        ]
        assert any(
            torch.equal(
                clip.samples[0, f * HOP_LENGTH : (f + 30) * HOP_LENGTH], crops.samples[item]
            )
            and torch.equal(clip.pitch_hz[0, 4 * f : 4 * (f + 30)], crops.pitch_hz[item])
            for clip, f in places
        )
    # The codes are those of their audio: most equal those of encoding it again.
    codes, audio = whole[0].codes[:, 0], whole[0].samples[0]
    np.testing.assert_allclose(
        whole[0].pitch_hz[0].numpy(), fill_pitch(track_pitch(audio.numpy())), rtol=1e-5
    )
    again = trainer.codec.encode(audio[None]).audio_codes[0]
    # Frames may do without the other codebooks.
    assert float((again[0, :-10] == codes[0, :-10]).float().mean()) > 0.9
    latents = trainer.latents(codes[:, None], torch.tensor([2]))
    torch.testing.assert_close(latents, trainer.codec.quantizer.decode(codes[None, :2]))


def test_interrupted_and_whole(folder, monkeypatch) -> None:
    monkeypatch.setattr(discriminators, "CHANNELS", 4)
    whole, parts = write(folder, "whole"), write(folder, "parts")
    for path in (whole, parts):
        adversary = "[adversary]\nfrom_step = 5\nlearning_rate = 5e-3\n"
        path.write_text(path.read_text() + adversary)
    VocoderTrainer(load_any_config(whole)).run()
    trainer = VocoderTrainer(load_any_config(parts))
    update = trainer.update

    def interrupted(optimizer, step):
        if step == 7:
            raise KeyboardInterrupt
        return update(optimizer, step)

    trainer.update = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    VocoderTrainer(load_any_config(parts)).run()
    first, second = (
        load_file(folder / name / "vocoder" / "model.safetensors") for name in ("whole", "parts")
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-5, rtol=1e-4)
    rows = (folder / "whole" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in rows]
    stages = [(row["stage"], row["step"]) for row in log]
    assert stages == [("vocoder", 5), ("vocoder", 10), ("dev", 10)]
    assert log[1]["mel"] < log[0]["mel"]
    judged = {"discriminators", "adversarial", "features"}
    assert judged < set(log[1])
    assert not judged & set(log[0])
    vocoder = Vocoder.from_pretrained(folder / "whole" / "vocoder")
    assert vocoder.config.codec_fingerprint == trainer.codec.fingerprint().hex()


def test_a_recogniser_compares_what_it_reads(folder) -> None:
    path = write(folder, "states")
    path.write_text(path.read_text() + "[loss]\nstates = 2.0\n")
    with pytest.raises(TrainingError, match="states and words need a recogniser"):
        load_any_config(path)
    path.write_text('recogniser = "tiny.en"\n' + path.read_text())
    trainer = VocoderTrainer(load_any_config(path))
    crops = trainer.train.crops(np.random.default_rng(0), 2, 40)
    latents = trainer.latents(crops.codes, torch.tensor([8, 8]))
    losses = trainer.losses(crops, *trainer.decode(crops, latents))
    for name in ("states", "words"):
        head = trainer.vocoder.gain_head.weight
        (gradient,) = torch.autograd.grad(losses[name], head, retain_graph=True)
        assert bool(gradient.any())
        assert bool(gradient.isfinite().all())
    # The same speech is no distance away, and quieter speech a small one: Whisper levels it.
    speech = crops.samples
    for name in ("states", "words"):
        distances = [
            float(trainer._recogniser_losses(trainer.teacher, other, speech)[name])
            for other in (speech, 0.5 * speech, speech.flip(1))
        ]
        assert distances[0] == 0
        assert distances[0] < distances[1] < 0.2 * distances[2]
    assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())


def test_discriminators_learn_and_teach(monkeypatch) -> None:
    monkeypatch.setattr(discriminators, "CHANNELS", 4)
    torch.manual_seed(0)
    adversary = Adversary(5e-3, torch.device("cpu"))
    time_s = torch.arange(8000) / 16_000
    pitch_hz = torch.tensor([[150.0], [220.0]])
    speech = 0.3 * (torch.sin(2 * torch.pi * pitch_hz * time_s) > 0.9)
    noise = 0.1 * torch.randn(2, 8000)
    weights = [*adversary.modules.parameters()]
    before = [p.clone() for p in weights]
    decoded = noise.clone().requires_grad_()
    losses = [float(adversary.update(decoded, speech)) for _ in range(40)]
    assert decoded.grad is None
    assert losses[-1] < 0.35  # 0.5 by chance
    assert all(bool((a != b).any()) for a, b in zip(before, weights, strict=True))
    # What they learnt tells in which direction to go; they do not learn on the way.
    before = [p.grad.clone() for p in weights]
    parts = adversary.losses(decoded, speech)
    sum(parts.values()).backward()
    assert bool(decoded.grad.any())
    assert bool(decoded.grad.isfinite().all())
    assert all(torch.equal(a, b.grad) for a, b in zip(before, weights, strict=True))
    same = adversary.losses(speech, speech)
    assert float(same["features"]) == 0.0
    assert same["adversarial"].item() < parts["adversarial"].item()
    # A checkpoint holds weights and optimizer: the next update is the same.
    other = Adversary(5e-3, torch.device("cpu"))
    other.load({name: value.clone() for name, value in adversary.state().items()})
    assert float(other.update(noise, speech)) == float(adversary.update(noise, speech))
    for own, its in zip(adversary.state().values(), other.state().values(), strict=True):
        torch.testing.assert_close(own, its)


def test_refused(folder) -> None:
    with pytest.raises(TrainingError, match="crop_frames = 2000"):
        VocoderTrainer(load_any_config(write(folder, "long", crop=2000))).run()
    path = write(folder, "levels")
    path.write_text(path.read_text().replace("8 = 1", "9 = 1"))
    with pytest.raises(TrainingError, match=r"draws \[2, 9\] codebooks"):
        VocoderTrainer(load_any_config(path))
    path.write_text(path.read_text().replace("9 = 1", "").replace("hidden_size", "hiden_size"))
    with pytest.raises(TrainingError, match="hiden_size"):
        VocoderTrainer(load_any_config(path))
    path = write(folder, "judged")
    path.write_text(path.read_text() + "[loss]\nfeatures = 1.0\n")
    with pytest.raises(TrainingError, match=r"need a table \[adversary\]"):
        load_any_config(path)
    VocoderTrainer(load_any_config(write(folder, "other", steps=5))).run()
    with pytest.raises(TrainingError, match="another configuration"):
        VocoderTrainer(load_any_config(write(folder, "other", steps=6))).run()


def test_codes_stay_beside_their_samples(codec, tmp_path) -> None:
    """Recordings at the border of a width of batches, which cuts their last samples, too."""
    border = round((WIDTHS_S[0] - TAIL_S) * 16_000)
    rng = np.random.default_rng(0)
    clips = [
        (3000 * rng.standard_normal(n)).astype(np.int16)
        for n in (border + 5, 20_000, border + 15, border, 40_000)
    ]
    recordings = Recordings.from_clips(clips, torch.device("cpu"))
    config = TrainConfig(output_dir="x", data=DataConfig(train=["a"], dev=["b"]), augment=NO_CHANGE)
    augment = Augment(None, torch.device("cpu"))
    batches = Batches(recordings, augment, config, 20.0)
    coded = CodedRecordings.encode(recordings, codec, batches, 0, tmp_path)
    assert coded.frames.tolist() == [70, 32, 70, 70, 63]
    for number, clip in enumerate(coded.clips()):
        if len(clips[number]) in (border + 5, border + 15):
            continue  # cut somewhere, by less than a millisecond
        # Not the other codebooks, which some frames do without.
        again = encode_audio(codec, clip.samples[0].numpy(), 1)
        assert (again == clip.codes[:1, 0].numpy()).mean() > 0.99
