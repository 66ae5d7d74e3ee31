"""All stages on the bundled clips, small: they run, learn, resume and write no pickle."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration
from vqasr.adapters.codes_adapter import CodesAdapter
from vqasr.adapters.recogniser import load_recogniser
from vqasr.adapters.transcribe import CodesRecogniser

from vqasr import VQCodecModel
from vqasr.acoustics import change_speed
from vqasr.assets import CLIPS
from vqasr.audio import read_audio
from vqasr.code_prior import CodePrior
from vqasr.data import data_fingerprint, load_speech
from vqasr.encoding import audio_to_stream, encode_audio
from vqasr.errors import InvalidCodesError, TrainingError
from vqasr.prior_config import STOP
from vqasr.priors import bundled_prior
from vqasr.stream import stream_from_bytes
from vqasr.systems import CodesSystem
from vqasr.training import prior_data
from vqasr.training.augment import Augment, is_held_out
from vqasr.training.batches import WIDTHS_S, Batches
from vqasr.training.config import AugmentConfig, DataConfig, load_train_config
from vqasr.training.judge import Judge
from vqasr.training.losses import decoder_parts, lost_frames
from vqasr.training.optimizer import Muon, MuonAndAdamW
from vqasr.training.speech_head import speech_frames
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.trainer import StageTrainer

RECIPES = Path(__file__).parents[1] / "recipes"
CONFIG = """
output_dir = "{out}"
save_every = 3
[data]
train = ["{data}"]
dev = ["{data}"]
noise = ["{noise}"]
batch_s = 10.0
dev_utterances = 2
[autoencoder]
steps = {autoencoder}
warmup_steps = 2
[quantizer]
steps = 4
[joint]
steps = {joint}
warmup_steps = 2
learning_rate = 1e-2
[gaps]
steps = 4
warmup_steps = 2
[closing]
steps = 3
[prior]
steps = 120
priced_steps = 30
num_modelled = 2
width = 16
head_size = 16
dilations = [1, 2]
passes = 2
batch_chunks = 4
save_every = 50
[levels]
0 = 1
1 = 2
2 = 2
[codec]
variable_depth = true
num_quantizers = 2
codebook_size = 32
latent_dim = 8
hidden_size = 32
num_fine_layers = 1
num_layers = 1
decoder_hidden_size = 16
num_decoder_layers = 1
[adapter]
hidden_size = 32
num_layers = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    entries = [e for e in json.loads((CLIPS / "clips.json").read_text()) if "long" not in e]
    rows = [
        {"audio": {"bytes": (CLIPS / e["file"]).read_bytes(), "path": None}, "text": e["text"]}
        for e in entries
    ]
    Dataset.from_list(rows).to_parquet(folder / "speech.parquet")
    noise = [{"audio": rows[i]["audio"], "kind": "rir" if i == 0 else "noise"} for i in range(5)]
    Dataset.from_list(noise).to_parquet(folder / "noise.parquet")
    return folder


def write_config(folder: Path, out: str, autoencoder: int = 6, joint: int = 6) -> Path:
    path = folder / f"{out}.toml"
    path.write_text(
        CONFIG.format(
            out=folder / out,
            data=folder / "speech.parquet",
            noise=folder / "noise.parquet",
            autoencoder=autoencoder,
            joint=joint,
        )
    )
    return path


class Interrupted(Exception):
    pass


def test_three_stages_and_resuming(folder, monkeypatch) -> None:
    whole = StageTrainer(load_train_config(write_config(folder, "whole")))
    whole.run()
    log = [json.loads(line) for line in (folder / "whole" / "log.jsonl").read_text().splitlines()]
    verdicts = {r["stage"]: r["dev"] for r in log if "dev" in r}
    assert list(verdicts) == ["autoencoder", "quantizer", "joint"]
    for stage, verdict in verdicts.items():
        assert verdict["reconstruction"], stage
        assert len(verdict["perplexity"]) == 2
        assert set(verdict["wer"]) > {"pcm"}, stage
    assert set(verdicts["joint"]["wer"]) == {"pcm", "mel:2", "codes:1", "codes:2"}

    # The same run, killed in the joint stage, ends with the same weights.
    config = load_train_config(write_config(folder, "broken"))
    broken = StageTrainer(config)
    save, saved = broken._save, []

    def save_then_die(stage, step, optimizer):
        save(stage, step, optimizer)
        saved.append((stage, step))
        if (stage, step) == ("joint", 3):
            raise Interrupted

    monkeypatch.setattr(broken, "_save", save_then_die)
    with pytest.raises(Interrupted):
        broken.run()
    assert saved == [("autoencoder", 3), ("autoencoder", 6), ("quantizer", 0), ("quantizer", 3),
                     ("joint", 0), ("joint", 3)]  # fmt: skip
    StageTrainer(config).run()
    one, other = (
        load_file(folder / n / "codec" / "model.safetensors") for n in ("whole", "broken")
    )
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4, msg=name)

    # The stage of gaps changes nothing but the latent of lost frames.
    state = load_file(folder / "whole" / "adapter" / "adapter_model.safetensors")
    assert not torch.equal(state["missing_frame"], state["no_frame"])

    # The prior is trained last, on codes of every pass, and resumes.
    prior = CodePrior.from_pretrained(folder / "whole" / "prior")
    again = CodePrior.from_pretrained(folder / "broken" / "prior")
    assert again.config.num_modelled == 2
    log = (folder / "whole" / "prior_run" / "log.jsonl").read_text().splitlines()
    verdict = json.loads(log[-1])["dev"]
    assert set(verdict) == {"1", "2"}
    assert verdict["2"]["prior"] < verdict["2"]["nominal"]
    # Two passes with the nearest codes and two with those that the prior chose.
    assert len(list((folder / "whole" / "prior_run").glob("codes-*.safetensors"))) == 4

    # What it wrote can be used, and holds no pickle.
    codec = VQCodecModel.from_pretrained(folder / "whole" / "codec")
    adapter = CodesAdapter.from_pretrained(folder / "whole" / "adapter")
    assert adapter.codec_fingerprint == codec.fingerprint()
    closing = adapter.embedder.closing_frames
    assert closing is not None
    assert not torch.allclose(closing[0], closing[1])
    torch.testing.assert_close(closing.mean(0), state["no_frame"].float(), atol=0.1, rtol=0.1)
    assert prior.config.codec_fingerprint == codec.fingerprint().hex()
    samples = read_audio(CLIPS / "clip01_af_heart.flac")
    data = audio_to_stream(codec, samples, prior=prior)
    read = stream_from_bytes(data, prior=prior)
    np.testing.assert_array_equal(read.codes, encode_audio(codec, samples))
    check_rates(codec, adapter, prior, samples)
    suffixes = {p.suffix for p in (folder / "whole").rglob("*") if p.is_file()}
    assert suffixes == {".jsonl", ".json", ".safetensors", ".md"}


def check_rates(codec, adapter, prior, samples) -> None:
    """The measured operating points of variable depth, and a system that works at one of them."""
    rates = [rate for rate, _, _ in codec.config.price_points]
    assert rates == sorted(rates)
    assert rates[0] < 0.97 * rates[-1]
    middle = round((rates[0] + rates[-1]) / 2)
    n, bit_price = codec.config.operating_point(middle)
    assert bit_price > 0
    depths = (encode_audio(codec, samples, n, bit_price, prior) != STOP)[1:].sum(0)
    assert 0 < (depths == 0).sum() < len(depths)
    reads = CodesRecogniser(load_recogniser("tiny.en"), adapter)
    sizes = {}
    for name in ("vqasr:1", f"vqasr:{middle}bps", "vqasr:2"):
        heard = CodesSystem(name, codec, reads, prior).hear([samples], batch_size=1)
        sizes[name] = heard.stream_bytes[0]
    assert list(sizes.values()) == sorted(set(sizes.values())), sizes
    with pytest.raises(InvalidCodesError, match="bits per second are possible"):
        CodesSystem(f"vqasr:{round(rates[-1]) + 100}bps", codec, reads, prior)


def test_a_run_begins_where_another_ended(folder) -> None:
    first = StageTrainer(load_train_config(write_config(folder, "first", autoencoder=3, joint=0)))
    first._save("joint", 0, None)
    config = load_train_config(write_config(folder, "second", autoencoder=0, joint=0))
    config.start_from = str(folder / "first")
    config.quantizer.steps = config.gaps.steps = config.prior.steps = 0
    config.seed = 1
    second = StageTrainer(config)
    second.run()
    for name, value in first.codec.state_dict().items():
        assert torch.equal(second.codec.state_dict()[name], value), name
    # Where the state is gone, from the finished folders, which are float16.
    (folder / "second" / "state.safetensors").unlink()
    config.start_from, config.output_dir = str(folder / "second"), str(folder / "third")
    third = StageTrainer(config)
    third.load(folder / "second")
    for name, value in third.embedder.state_dict().items():
        torch.testing.assert_close(second.embedder.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    config.start_from, config.output_dir = str(folder / "nothing"), str(folder / "fourth")
    with pytest.raises(TrainingError, match="holds no state"):
        StageTrainer(config).run()


@torch.no_grad()
@pytest.mark.usefixtures("without_bfloat16")
def test_widening_leaves_two_codebooks_as_they_were(folder, clips, monkeypatch) -> None:
    path = RECIPES / "train_codec" / "widen.py"
    spec = importlib.util.spec_from_file_location("widen", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    monkeypatch.setattr(recipe, "BATCHES", 3)
    config = load_train_config(write_config(folder, "widened"))
    config.codec |= {"num_quantizers": 3}
    trainer = StageTrainer(config)
    codec, embedder = trainer.codec.eval(), trainer.embedder.eval()
    # Latents that have collapsed to three of their eight dimensions.
    to_latent = codec.encoder.to_latent
    to_latent.weight.copy_(torch.randn(8, 3) @ torch.randn(3, 32))
    trainer.fit_codebooks()
    embedder.quantizer.load_state_dict(codec.quantizer.state_dict())
    samples = torch.from_numpy(clips[0].samples)[None]
    before = codec.encode(samples).audio_codes
    embeddings = embedder(before[:, :2])
    recipe.widen(trainer, 3)
    after = codec.encode(samples).audio_codes
    assert (after[:, :2] == before[:, :2]).float().mean() > 0.99  # but for float near-ties
    torch.testing.assert_close(embedder(before[:, :2]), embeddings, atol=1e-3, rtol=1e-3)
    new = codec.encode_latents(samples)[0][..., 3:]
    assert float(new.var()) > 0.0
    quantized = codec.quantizer.decode(after)[..., 3:]
    assert (quantized - new).square().mean() < 0.9 * new.square().mean()


def test_an_adapter_alone_for_another_recogniser(folder, recogniser, codec, clips) -> None:
    base = recogniser.recogniser
    small = copy.deepcopy(base.model.config)
    small.update(
        {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    )  # fmt: skip
    other = WhisperForConditionalGeneration(small)
    other.generation_config = copy.deepcopy(base.model.generation_config)
    other.generation_config.max_length = 12
    for part in (other, base.feature_extractor, base.tokenizer):
        part.save_pretrained(folder / "other")
    path = write_config(folder, "adapter", autoencoder=0, joint=6)
    text = path.read_text().replace("steps = 4\n", "steps = 0\n", 1)
    text = text[: text.index("[codec]")]
    path.write_text(f'recogniser = "{folder / "other"}"\nfrozen_codec = "vqasr-base"\n' + text)
    config = load_train_config(path)
    StageTrainer(config).run()
    assert not (folder / "adapter" / "codec").exists()
    adapter = CodesAdapter.from_pretrained(folder / "adapter" / "adapter")
    assert adapter.codec_fingerprint == codec.fingerprint()
    reads = CodesRecogniser(load_recogniser(folder / "other"), adapter)
    codes = encode_audio(codec, clips[0].samples, 2)
    torch.testing.assert_close(
        adapter.embedder.quantizer.decode(torch.from_numpy(codes)[None]),
        codec.quantizer.decode(torch.from_numpy(codes)[None]),
        atol=1e-3, rtol=1e-3,
    )  # fmt: skip
    assert isinstance(reads.transcribe_codes([codes])[0], str)
    path.write_text(
        path.read_text().replace("[autoencoder]\nsteps = 0", "[autoencoder]\nsteps = 1")
    )
    with pytest.raises(TrainingError, match="would change the codec"):
        load_train_config(path)


def test_muon_goes_on_where_it_was_saved() -> None:
    def fresh() -> tuple[torch.nn.Module, MuonAndAdamW]:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.LayerNorm(16))
        return layers, MuonAndAdamW(list(layers.parameters()), 1e-2)

    def step(layers: torch.nn.Module, optimizer: MuonAndAdamW, seed: int) -> None:
        inputs = torch.randn(8, 20, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        layers(inputs).pow(3).mean().backward()
        optimizer.step()

    layers, optimizer = fresh()
    begin = {name: value.clone() for name, value in layers.state_dict().items()}
    step(layers, optimizer, 1)
    assert all(not torch.equal(layers.state_dict()[name], value) for name, value in begin.items())
    again, other = fresh()
    again.load_state_dict(layers.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(layers, optimizer, 2), step(again, other, 2)
    for name, value in layers.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_muon_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(32, 64), (64, 32), (32, 64)]
    ours, theirs = (
        [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes] for _ in range(2)
    )
    optimizers = (
        Muon(ours, lr=0.01, weight_decay=0.01),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, two in zip(ours, theirs, strict=True):  # torch's iterates in bfloat16
        assert (one - two).norm() < 0.03 * (one - 0.5).norm()


@pytest.mark.usefixtures("without_bfloat16")
def test_only_the_wanted_positions_are_predicted(recogniser) -> None:
    whisper = recogniser.recogniser
    teacher = WhisperTeacher(whisper.model, whisper.tokenizer, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    wanted = 0.5 * torch.randn(2, 30, whisper.model.config.d_model, generator=generator)
    heard = wanted + 0.2 * torch.randn(wanted.shape, generator=generator)
    texts = ["and so it was", "yes"]
    with torch.no_grad():
        parts = decoder_parts(teacher, heard, wanted, texts)
        tokens, mask = teacher.tokens(texts, heard.device)
        every = torch.arange(tokens.numel())
        target, predicted = (
            teacher.predictions(s, tokens, every).float().log_softmax(-1).view(*tokens.shape, -1)
            for s in (wanted, heard)
        )
    divergence = (target.exp() * (target - predicted)).sum(-1)[mask].mean()
    said = -predicted[:, :-1].gather(2, tokens[:, 1:, None])[..., 0][mask[:, :-1]].mean()
    torch.testing.assert_close(parts["decoder"], divergence, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(parts["transcript"], said, rtol=0.02, atol=1e-3)
    assert float(divergence) > 0.01
    nothing = decoder_parts(teacher, heard, wanted, ["", ""])
    assert {float(part) for part in nothing.values()} == {0.0}


def test_the_autoencoder_learns(folder) -> None:
    trainer = StageTrainer(load_train_config(write_config(folder, "learns", autoencoder=50)))
    before = trainer.judge(trainer.codec, trainer.embedder, mel=[0], codes=[])
    stage = trainer.config.autoencoder
    stage.learning_rate = 3e-3
    trainer.gradient_stage("autoencoder", stage, 0)
    after = trainer.judge(trainer.codec, trainer.embedder, mel=[0], codes=[])
    assert after.reconstruction["0"] < 0.7 * before.reconstruction["0"]


def batches(folder: Path, seed: int) -> Batches:
    data = DataConfig([], [], batch_s=10.0)
    augment = Augment(AugmentConfig(1, 1, 1, 1, 1, 1), load_speech(folder / "noise.parquet"))
    return Batches(load_speech(folder / "speech.parquet"), data, augment, seed)


def test_batches_depend_on_the_seed_alone(folder) -> None:
    def take(first: int, count: int, seed: int = 0) -> list:
        stream = batches(folder, seed).from_step(first)
        taken = [next(stream) for _ in range(count)]
        stream.close()
        return taken

    straight, resumed, other = take(0, 6), take(4, 2), take(0, 1, seed=1)
    for a, b in zip(straight[4:], resumed, strict=True):
        assert torch.equal(a.heard, b.heard)
        assert a.texts == b.texts
    assert not torch.equal(straight[0].heard, other[0].heard)
    for batch in straight:
        assert batch.clean.shape[1] / 16_000 in WIDTHS_S
        assert batch.clean.shape[1] >= int(batch.lengths.max()) + 0.4 * 16_000 - 1
        assert batch.heard.shape == batch.clean.shape
        assert not torch.equal(batch.heard, batch.clean)
        assert all(batch.texts)


def test_held_out_noise_is_not_used(folder) -> None:
    augment = Augment(AugmentConfig(), load_speech(folder / "noise.parquet"))
    assert len(augment._responses) == 1
    assert len(augment._noises) == 3
    assert is_held_out(4)


def test_speech_labels_tell_pauses(clips) -> None:
    wave = torch.from_numpy(clips[0].samples)
    padded = torch.cat([wave, torch.zeros(16_000)])[None]
    labels = speech_frames(padded, torch.tensor([len(padded[0])]))[0]
    assert labels[10:60].float().mean() > 0.7
    assert not labels[-20:].any()


def test_judge_reports_the_recogniser_itself(recogniser, codec, folder) -> None:
    judge = Judge(load_speech(folder / "speech.parquet"), "text", 4, recogniser.recogniser)
    verdict = judge(codec, recogniser.adapter.embedder, mel=[8], codes=[1, 8])
    assert verdict.wer["pcm"] < 0.05
    assert verdict.wer["codes:8"] < 0.15
    assert verdict.reconstruction["8"] < 0.6
    assert all(p > 10 for p in verdict.perplexity[:4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "TOML"),
        ('output_dir = "x"', "missing"),
        ('output_dir = "x"\nspeed = 3', "unknown"),
        ('output_dir = "x"\ndata = 3', "must be a table"),
        ('output_dir = "x"\n[data]\ntrane = []', "trane"),
        ('output_dir = "x"\n[data]\ntrain = "a"\ndev = []', "not of type"),
        ('output_dir = "x"\nseed = "one"', "not of type"),
    ],
)
def test_bad_configurations(tmp_path, text, message) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_train_config(tmp_path / "c.toml")


def test_another_configuration_does_not_resume(folder) -> None:
    path = write_config(folder, "shapes", autoencoder=3, joint=0)
    trainer = StageTrainer(load_train_config(path))
    trainer._save("joint", 0, None)
    path.write_text(path.read_text().replace("latent_dim = 8", "latent_dim = 6"))
    with pytest.raises(TrainingError, match="another configuration"):
        StageTrainer(load_train_config(path)).run()


def test_levels_beyond_the_codec(folder) -> None:
    path = write_config(folder, "levels")
    path.write_text(path.read_text().replace("2 = 2\n", "3 = 2\n"))
    with pytest.raises(TrainingError, match="draws 3 codebooks"):
        StageTrainer(load_train_config(path))


def test_a_loss_that_is_not_finite_stops_the_run(folder) -> None:
    path = write_config(folder, "nan")
    trainer = StageTrainer(load_train_config(path))
    trainer.codec.encoder.to_latent.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan at step 0"):
        trainer.run()
    assert not (folder / "nan" / "state.safetensors").exists()


def test_broken_checkpoint_says_so(folder) -> None:
    path = write_config(folder, "junk")
    (folder / "junk").mkdir()
    (folder / "junk" / "state.safetensors").write_bytes(np.random.bytes(1000))
    with pytest.raises(TrainingError, match="no readable checkpoint"):
        StageTrainer(load_train_config(path)).run()


def test_passes_in_processes_give_the_same_codes(folder, codec, monkeypatch) -> None:
    data = load_speech(folder / "speech.parquet").select(range(2))
    augment = Augment(AugmentConfig(speed=1.0), load_speech(folder / "noise.parquet"))
    alone = prior_data.training_codes(codec, data, augment, 2, 0, folder / "alone")
    monkeypatch.setattr(prior_data, "WORTH_PROCESSES", 1)
    together = prior_data.training_codes(codec, data, augment, 2, 0, folder / "together")
    assert alone.shape == together.shape
    assert np.mean(alone != together) < 0.01  # near-ties: one thread there, perhaps two here
    monkeypatch.undo()
    prior = bundled_prior(codec.fingerprint())
    chosen = prior_data.training_codes(codec, data, augment, 2, 0, folder / "alone", prior)
    assert chosen.shape == alone.shape
    assert prior.bits(chosen).sum() < 0.95 * prior.bits(alone).sum()


@pytest.mark.parametrize("speed", [0.85, 1.0, 1.12])
def test_speed_changes_length_and_pitch(speed) -> None:
    samples = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    changed = change_speed(samples, speed)
    assert changed.dtype == np.float32
    assert len(changed) == round(16_000 / speed)
    peak_hz = np.argmax(np.abs(np.fft.rfft(changed))) * 16_000 / len(changed)
    assert peak_hz == pytest.approx(440 * speed, abs=1.5)
    assert np.abs(changed).max() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("loudness", [1e-4, 0.3, 1.0])
def test_tone_clips_nothing(loudness) -> None:
    rng = np.random.default_rng(0)
    samples = (loudness * rng.uniform(-1, 1, 16_000)).astype(np.float32)
    target, heard = Augment(AugmentConfig(0, 1, 0, 0, 0, 0), None)(samples, rng)
    np.testing.assert_array_equal(target, heard)
    assert np.abs(target).max() <= 1.0
    ratio = np.abs(np.fft.rfft(target)) / np.abs(np.fft.rfft(samples))
    ratio /= np.median(ratio)
    assert ratio.max() > 1.3
    assert ratio.min() < 0.8


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_noise_may_belong_to_the_recording(folder, shared) -> None:
    noise = load_speech(folder / "noise.parquet")
    augment = Augment(AugmentConfig(gain=0, noise=1, band_limit=0, shared=shared), noise)
    samples = np.sin(np.arange(16_000) / 20).astype(np.float32)
    target, heard = augment(samples, np.random.default_rng(0))
    assert np.array_equal(target, heard) == bool(shared)
    assert np.array_equal(target, samples) != bool(shared)


def test_lost_frames_are_whole_seconds() -> None:
    lost = lost_frames(2000, 110, torch.Generator().manual_seed(0))
    chunks = [lost[:, i : i + 25].float() for i in range(0, 110, 25)]
    for chunk in chunks:
        assert torch.equal(chunk.amin(1), chunk.amax(1))
    share = torch.stack([c[:, 0] for c in chunks]).mean()
    assert 0.13 < share < 0.17  # 0 to 30 %


def test_a_data_set_is_named_by_its_audio(folder) -> None:
    data = load_speech(folder / "speech.parquet")
    assert data_fingerprint(data) == data_fingerprint(load_speech(folder / "speech.parquet"))
    assert data_fingerprint(data) != data_fingerprint(data.select([1, 0, *range(2, len(data))]))
    assert data_fingerprint(data) != data_fingerprint(data.select(range(3)))
