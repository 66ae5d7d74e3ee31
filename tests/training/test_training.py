"""A whole training on the bundled clips, small: it runs, resumes and writes no pickle."""

import copy
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from training_helpers import small_whisper, training_data, write_config

from vqasr import VQCodecModel
from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.original_whisper import load_whisper
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.compression.compress import compress, encode_audio
from vqasr.compression.rates import operating_point
from vqasr.entropy.prior import CodePrior
from vqasr.errors import InvalidCodesError, TrainingError
from vqasr.evaluation.systems import CodesSystem
from vqasr.grid import STOP
from vqasr.stream.stream import Stream
from vqasr.training.config import TrainConfig, load_any_config, load_train_config
from vqasr.training.optimizer import Muon
from vqasr.training.trainer import Trainer
from vqasr.training.windows import Windows

ADAPTER = "vqasr-base-whisper-tiny.en"
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def folder(recogniser, tmp_path_factory) -> Path:
    folder = training_data(tmp_path_factory.mktemp("training"))
    small_whisper(recogniser.whisper, folder)
    return folder


@pytest.fixture(autouse=True)
def few_prices(monkeypatch) -> None:
    """Measure few rates; the real number takes minutes."""
    monkeypatch.setattr("vqasr.training.prior_trainer.PRICES", (0.22, 0.08, 0.02, 0.0))


class Interrupted(Exception):
    pass


@pytest.mark.usefixtures("without_bfloat16")
def test_a_whole_training_and_resuming(folder, monkeypatch) -> None:
    Trainer(load_train_config(write_config(folder, "whole"))).run()
    log = [json.loads(line) for line in (folder / "whole" / "log.jsonl").read_text().splitlines()]
    stages = [record["stage"] for record in log]
    assert stages == ["autoencoder", "codebooks", "joint", "joint", "dev", "speech_head", "rates"]
    joint, dev = log[3], log[4]
    assert {"small:stem", "small:decoder", "small:end", "ctc", "scale"} <= joint.keys()
    assert set(dev["small"]) == {"0", "0 end", "1", "1 end", "2", "2 end"}

    # The same run, killed between two joint steps, ends with the same weights.
    config = load_train_config(write_config(folder, "broken"))
    broken = Trainer(config)
    save = broken.save

    def save_then_die(step, optimizer):
        save(step, optimizer)
        if step == 6:
            raise Interrupted

    monkeypatch.setattr(broken, "save", save_then_die)
    with pytest.raises(Interrupted):
        broken.run()
    Trainer(config).run()
    for part in ("codec/model", "adapter-small/adapter_model", "prior/prior"):
        one, other = (load_file(folder / n / f"{part}.safetensors") for n in ("whole", "broken"))
        for name, value in one.items():
            torch.testing.assert_close(other[name].float(), value.float(), rtol=1e-3, atol=1e-3)

    # Lost frames and closing frames are learned along.
    state = load_file(folder / "whole" / "adapter-small" / "adapter_model.safetensors")
    assert not torch.equal(state["missing_frame"], state["no_frame"])
    assert not torch.allclose(state["closing_frames"][0], state["closing_frames"][1])

    # The prior learned codes of every pass: the nearest ones, and those that it chose.
    prior = CodePrior.from_pretrained(folder / "whole" / "prior")
    lines = (folder / "whole" / "prior_run" / "log.jsonl").read_text().splitlines()
    measured = json.loads(lines[-1])["dev"]
    assert set(measured) == {"1", "2"}
    assert measured["2"]["prior"] < measured["2"]["nominal"]
    assert len(list((folder / "whole" / "prior_run").glob("codes-*.safetensors"))) == 4

    # What it wrote can be used, and holds no pickle.
    codec = VQCodecModel.from_pretrained(folder / "whole" / "codec")
    adapter = CodesAdapter.from_pretrained(folder / "whole" / "adapter-small")
    assert adapter.codec_fingerprint == codec.fingerprint()
    assert prior.config.codec_fingerprint == codec.fingerprint().hex()
    samples = read_audio(CLIPS / "clip01_af_heart.flac")
    read = Stream.load(compress(samples, codec=codec, prior=prior).to_bytes(), prior=prior)
    np.testing.assert_array_equal(read.codes, encode_audio(codec, samples))
    whisper = load_whisper(str(folder / "whisper-small"))
    check_rates(codec, WhisperRecogniser(whisper, adapter), prior, samples)
    suffixes = {p.suffix for p in (folder / "whole").rglob("*") if p.is_file()}
    assert suffixes == {".jsonl", ".json", ".safetensors", ".md"}


WINDOWS = "window_shards = 2\nshard_rows = 2\nwindow_steps = 2\ntranscribe = false\n"


@pytest.mark.usefixtures("without_bfloat16")
def test_data_in_windows(folder, monkeypatch) -> None:
    """Each step sees the recordings of its window, also after a resume."""

    def run(name: str, ends: list[int]) -> tuple[dict, list[set[str]]]:
        path = write_config(folder, name, autoencoder=6, joint=0)
        text = path.read_text().replace("dev_utterances", f"{WINDOWS}dev_utterances")
        path.write_text(text.replace("log_every = 3", "log_every = 1"))
        seen = []
        for end in ends:
            trainer = Trainer(load_train_config(path))
            assert trainer.windows.per_epoch == math.ceil(len(trainer.dev) / 4)
            update, save = trainer.update, trainer.save

            def watched(optimizer, step, trainer=trainer, update=update):
                seen.append(set(trainer.train.texts))
                return update(optimizer, step)

            def save_then_die(step, optimizer, save=save, end=end):
                save(step, optimizer)
                if step == end:
                    raise Interrupted

            monkeypatch.setattr(trainer, "update", watched)
            monkeypatch.setattr(trainer, "save", save_then_die)
            with pytest.raises(Interrupted):
                trainer.run()
        return load_file(folder / name / "state.safetensors"), seen

    whole, seen = run("windows", [6])
    resumed, again = run("windows-resumed", [3, 6])
    assert again == seen
    assert seen[0] == seen[1] != seen[2] == seen[3] != seen[4] == seen[5]
    assert all(2 <= len(texts) <= 4 for texts in seen)
    weights = [name for name in whole if not name.startswith("extra.")]
    assert len(weights) > 20
    for name in weights:
        torch.testing.assert_close(resumed[name], whole[name], rtol=1e-3, atol=1e-3)
    config = load_train_config(folder / "windows.toml").data
    windows = Windows(config, seed=1, steps=99)
    for epoch in (0, 1):
        numbers = range(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch)
        shards = [shard for number in numbers for shard in windows.shards(number)]
        assert sorted(shards) == [*range(len(shards))]


def check_rates(codec, reads, prior, samples) -> None:
    """The measured operating points of variable depth, and a system that works at one of them."""
    rates = [rate for rate, _, _ in codec.config.price_points]
    assert rates == sorted(rates)
    assert rates[0] < 0.97 * rates[-1]
    middle = round((rates[0] + rates[-1]) / 2)
    point = operating_point(codec.config, bps=middle)
    assert point.bit_price > 0
    codes = encode_audio(codec, samples, point.num_quantizers, point.bit_price, prior)
    depths = (codes != STOP)[1:].sum(0)
    assert 0 < (depths == 0).sum() < len(depths)
    sizes = {}
    for name in ("vqasr:1", f"vqasr:{middle}bps", "vqasr:2"):
        output = CodesSystem(name, codec, reads, prior).run([samples], batch_size=1)
        sizes[name] = output.stream_bytes[0]
    assert list(sizes.values()) == sorted(set(sizes.values())), sizes
    with pytest.raises(InvalidCodesError, match="bit/s"):
        CodesSystem(f"vqasr:{round(rates[-1]) + 100}bps", codec, reads, prior)


def test_adapters_alone_on_a_finished_codec(folder, codec, clips, caplog) -> None:
    """One begins with the adapter that ships, one for another Whisper with random weights."""
    name = str(folder / "whisper-small")
    path = write_config(
        folder, "adapters", frozen=True, autoencoder=0, joint=2,
        recognisers=[("tiny.en", ADAPTER), (name, "")],
    )  # fmt: skip
    caplog.set_level("INFO", "vqasr")
    trainer = Trainer(load_train_config(path))
    trainer.run()
    assert sum("with 8 codebooks: " in message for message in caplog.messages) == 1
    log = (folder / "adapters" / "log.jsonl").read_text()
    Trainer(load_train_config(path)).run()  # finished: trains and measures nothing
    assert (folder / "adapters" / "log.jsonl").read_text() == log
    assert not (folder / "adapters" / "codec").exists()
    tuned = CodesAdapter.from_pretrained(folder / "adapters" / "adapter-tiny.en")
    old = CodesAdapter.from_pretrained(ADAPTER).embedder.state_dict()
    new = tuned.embedder.state_dict()
    assert old.keys() == new.keys()
    for key in ("closing_frames", "to_embedding.weight", "from_latent.weight"):
        difference = (new[key] - old[key]).norm() / old[key].norm()
        assert 0 < difference < 0.3, key  # it began with the adapter that ships
    made = CodesAdapter.from_pretrained(folder / "adapters" / "adapter-small")
    assert made.codec_fingerprint == codec.fingerprint()
    codes = encode_audio(codec, clips[0].samples, 2)
    for adapter in (tuned, made):
        torch.testing.assert_close(
            adapter.embedder.quantizer.decode(torch.from_numpy(codes)[None]),
            codec.quantizer.decode(torch.from_numpy(codes)[None]),
            atol=1e-3, rtol=1e-3,
        )  # fmt: skip
    reads = WhisperRecogniser(load_whisper(name), made)
    assert isinstance(reads.transcribe_codes([codes])[0], str)
    # The verdict is about the adapter that began with trained weights, and about this run.
    for step, divergence in ((0, 9.0), (2, 1.0), (0, 0.1), (2, 0.1), (0, 0.1), (2, 0.08)):
        trainer.run_folder.log({"stage": "dev", "step": step, "tiny.en": {"8": divergence}})
        caplog.clear()
        trainer._compare_with_start()
        (verdict,) = caplog.messages
        assert verdict.startswith("tiny.en: divergence on dev in nats: ")
        better = divergence in (1.0, 0.08)
        if step:
            assert verdict.endswith(" with 8 codebooks: better") == better
            assert (f"not better than the adapter it began with ({ADAPTER})" in verdict) != better

    # Without noises to fit it to, a head that knows some is kept.
    trainer.noise, trainer.recognisers = None, trainer.recognisers[:1]
    weight = trainer.recognisers[0].embedder.speech_head.weight
    torch.nn.init.constant_(weight, 0.25)
    trainer._finish_adapters()
    kept = CodesAdapter.from_pretrained(folder / "adapters" / "adapter-tiny.en").embedder
    expected = torch.full_like(kept.speech_head.weight, 0.25)
    torch.testing.assert_close(kept.speech_head.weight, expected, rtol=0.01, atol=1e-4)


def test_a_finished_codec_is_trained_further(folder, codec) -> None:
    path = write_config(folder, "further", start_from="vqasr-base", autoencoder=0, joint=1, prior=0)
    Trainer(load_train_config(path)).run()
    further = VQCodecModel.from_pretrained(folder / "further" / "codec")
    assert further.fingerprint() != codec.fingerprint()
    difference = further.quantizer.codebooks - codec.quantizer.codebooks
    assert 0 < difference.norm() / codec.quantizer.codebooks.norm() < 0.5
    assert not (folder / "further" / "prior").exists()


def test_an_adapter_of_another_codec(folder, tmp_path) -> None:
    other = CodesAdapter.from_pretrained(ADAPTER)
    other.codec_fingerprint = b"\x01" * 6
    other.save_pretrained(tmp_path / "other")
    for start in (tmp_path / "other", tmp_path / "nothing"):
        path = write_config(
            folder, "wrong", frozen=True, autoencoder=0, recognisers=[("tiny.en", str(start))]
        )
        with pytest.raises(TrainingError, match=r"adapter .*(belongs to both|cannot be loaded)"):
            Trainer(load_train_config(path))


def test_learning_rate_rises_stays_and_falls(folder) -> None:
    config = load_train_config(write_config(folder, "rate", autoencoder=20, joint=80))
    rates = [config.schedule.rate(step) for step in range(100)]
    highest = config.schedule.learning_rate
    assert rates[0] == highest / 2
    assert rates[1:41] == [highest] * 40
    assert all(a > b for a, b in itertools.pairwise(rates[41:]))
    assert rates[-1] == pytest.approx(highest * 0.01 / 0.6)


def test_muon_resumes_where_it_was_saved() -> None:
    def fresh() -> tuple[torch.nn.Module, Muon]:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.LayerNorm(16))
        return layers, Muon(list(layers.parameters()), 1e-2)

    def step(layers: torch.nn.Module, optimizer: Muon, seed: int) -> None:
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
        Muon(ours, lr=0.01),
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


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.toml")), ids=lambda path: path.stem)
def test_recipes_are_configurations(path) -> None:
    config = load_any_config(path)
    if isinstance(config, TrainConfig):
        assert config.frozen_codec == (path.parent.name != "train_codec")
    else:
        assert path.parent.name == "train_vocoder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "TOML"),
        ('output_dir = "x"', "data: Field required"),
        ('output_dir = "x"\nspeed = 3', "speed: belongs to another table"),
        ('output_dir = "x"\ndata = 3', "data: Input should be a valid dictionary"),
        (
            'output_dir = "x"\n[data]\ntrane = []',
            "data.trane: unknown setting, did you mean train?",
        ),
        (
            'output_dir = "x"\n[data]\ntrain = "a"\ndev = []',
            "train: Input should be a .* list",
        ),
        ('output_dir = "x"\nseed = "one"\n[data]\ntrain = ["a"]\ndev = ["b"]', "seed: .* integer"),
        (
            'output_dir = "x"\nfrozen_codec = true\n[data]\ntrain = ["a"]\ndev = ["b"]',
            "needs the codec's name in start_from",
        ),
        (
            'output_dir = "x"\nstart_from = "vqasr-base"\n[data]\ntrain = ["a"]\ndev = ["b"]',
            "autoencoder_steps must be 0",
        ),
        (
            'output_dir = "x"\n[data]\ntrain = ["a"]\ndev = ["b"]\nwindow_shards = 3',
            "window_shards needs transcribe = false",
        ),
    ],
)
def test_bad_configurations(tmp_path, text, message) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_train_config(tmp_path / "c.toml")


def test_another_configuration_does_not_resume(folder) -> None:
    path = write_config(folder, "shapes", autoencoder=1, joint=0)
    trainer = Trainer(load_train_config(path))
    trainer.save(1, trainer._optimizer())
    path.write_text(path.read_text().replace("latent_dim = 8", "latent_dim = 6"))
    with pytest.raises(TrainingError, match="another configuration"):
        Trainer(load_train_config(path)).run()


def test_levels_beyond_the_codec(folder) -> None:
    path = write_config(folder, "levels")
    path.write_text(path.read_text().replace("2 = 2\n", "3 = 2\n"))
    with pytest.raises(TrainingError, match="draws 3 codebooks"):
        Trainer(load_train_config(path))


def test_unknown_sizes_are_refused(folder) -> None:
    path = write_config(folder, "sizes")
    path.write_text(path.read_text().replace("num_layers", "nun_layers", 1))
    with pytest.raises(TrainingError, match=r"\[codec\] has \['nun_layers'\]; allowed are"):
        Trainer(load_train_config(path))


def test_a_loss_that_is_not_finite_stops_the_run(folder) -> None:
    trainer = Trainer(load_train_config(write_config(folder, "nan")))
    trainer.student.codec.encoder.to_latent.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="is nan at step 2"):
        trainer.run()
    assert not (folder / "nan" / "state.safetensors").exists()


def test_broken_checkpoint_says_so(folder) -> None:
    path = write_config(folder, "junk")
    (folder / "junk").mkdir()
    (folder / "junk" / "state.safetensors").write_bytes(np.random.bytes(1000))
    with pytest.raises(TrainingError, match="no readable checkpoint"):
        Trainer(load_train_config(path)).run()


def test_dev_needs_transcripts(folder, tmp_path) -> None:
    rows = Dataset.from_parquet(str(folder / "speech.parquet")).remove_columns("text")
    rows.to_parquet(tmp_path / "silent.parquet")
    path = write_config(folder, "no-text")
    text = path.read_text()
    old = str(folder / "speech.parquet")
    path.write_text(text.replace(f'dev = ["{old}"]', f'dev = ["{tmp_path / "silent.parquet"}"]'))
    with pytest.raises(TrainingError, match="no transcripts"):
        Trainer(load_train_config(path))
