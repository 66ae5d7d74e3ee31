"""The fine-tuning recipes, a few steps on bundled clips: they train, resume, and can be used."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from datasets import Dataset
from safetensors.torch import load_file
from training_helpers import clip_rows, small_whisper, training_data, write_config
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from vqasr.adapters import load_recogniser
from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.compression.compress import encode_audio
from vqasr.data.tokenized import TokenizeConfig, tokenize
from vqasr.errors import RecogniserError
from vqasr.training.batches import Batches
from vqasr.training.config import load_train_config
from vqasr.training.recordings import Recordings
from vqasr.training.trainer import Trainer

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def codes(tmp_path_factory) -> Path:
    """The beginnings of four bundled clips, as `vqasr tokenize` leaves them."""
    folder = tmp_path_factory.mktemp("codes")
    Dataset.from_list(clip_rows()[:4]).to_parquet(folder / "speech.parquet")
    tokenize(TokenizeConfig((str(folder / "speech.parquet"),), num_quantizers=2), folder / "codes")
    return folder / "codes"


def repeated(codes: Path, folder: Path, times: int) -> Path:
    """The rows of a folder of `vqasr tokenize`, so many times over."""
    shutil.copytree(codes, folder)
    for shard in folder.glob("*.parquet"):
        pq.write_table(pa.concat_tables([pq.read_table(shard)] * times), shard)
    return folder


def run(script: str, *arguments: object) -> None:
    """Run a recipe as a command, in this process."""
    path = RECIPES / script
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(path), *map(str, arguments)], [str(path.parent), *sys.path]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path = before


def test_ctc(codes, codec, clips, tmp_path) -> None:
    settings = (
        "--codes", codes, "--dev", codes, "--out", tmp_path, "--whisper", "none",
        "--hidden-size", 48, "--layers", 1, "--inner", 96, "--batch-size", 2, "--eval-steps", 2,
        "--num-quantizers", 1, 2,
    )  # fmt: skip
    new = ("--pieces", 60, "--coarse-layers", 1, "--frozen")
    run("recognition/train_ctc.py", *settings, *new, "--max-steps", 2)
    assert (tmp_path / "checkpoint-2").is_dir()
    run("recognition/train_ctc.py", *settings, *new, "--max-steps", 4)
    log = json.loads((tmp_path / "final" / "log.json").read_text())
    assert [r["step"] for r in log if "eval_wer" in r] == [2, 4]  # it went on from step 2
    reader = load_recogniser(str(tmp_path / "final"))
    assert isinstance(reader, CTCRecogniser)
    assert isinstance(reader.transcribe_codes([encode_audio(codec, clips[0].samples, 2)])[0], str)
    assert reader.model.config.logits_per_frame == 1
    head = CodesAdapter.from_pretrained("vqasr-base-whisper-tiny.en").embedder.speech_head
    torch.testing.assert_close(reader.embedder.speech_head.weight, head.weight, atol=0, rtol=1e-3)

    start = ("--start", tmp_path / "final", "--warmup-steps", 1)
    start += ("--learning-rate", 0.01, "--out", tmp_path / "on")
    run("recognition/train_ctc.py", *settings, "--max-steps", 2, *start)
    before, after = reader.model, load_recogniser(str(tmp_path / "on" / "final")).model
    assert torch.equal(after.embedder.norm.weight, before.embedder.norm.weight)
    coarse = "coarse.encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(after.get_parameter(coarse), before.get_parameter(coarse))
    assert not torch.equal(after.lm_head.weight, before.lm_head.weight)


def test_transcripts_of_recordings_without_text(tmp_path) -> None:
    from train_ctc import with_transcripts

    texts, speeds = ["a", "a", "", "", "", "", "b", "b"], [1.0, 1.1] * 4
    data = Dataset.from_dict({"text": texts, "speed": speeds})
    path = tmp_path / "transcripts.json"
    path.write_text(json.dumps({"of": "", "transcripts": {1: ("sure", -0.1), 2: ("no", -0.9)}}))
    made = with_transcripts(data, path, -0.4)
    assert list(made["text"]) == ["a", "a", "sure", "sure", "", "", "b", "b"]
    with pytest.raises(SystemExit, match="recording 1 is not one without text"):
        with_transcripts(data.select(range(4, 8)), path, -0.4)


def test_two_processes_are_one(codes, recogniser, tmp_path, monkeypatch) -> None:
    """Two processes that share the batches train what one does: CTC from a stream, and a codec."""
    dev = repeated(codes, tmp_path / "dev", 10)  # more than one batch for each process

    def settings(name: str, batch_size: int) -> list[str]:
        return [str(part) for part in (
            "--codes", codes, "--dev", dev, "--out", tmp_path / name, "--buffer-rows", 8,
            "--whisper", "none", "--hidden-size", 48, "--layers", 1, "--inner", 96,
            "--batch-size", batch_size, "--eval-steps", 2, "--max-steps", 4, "--warmup-steps", 1,
            "--num-quantizers", 2,
        )]  # fmt: skip

    training_data(tmp_path)
    small_whisper(recogniser.whisper, tmp_path)
    configs = [
        str(write_config(tmp_path, name, autoencoder=0, joint=2, prior=0))
        for name in ("codec-one", "codec-two")
    ]

    # A fork has no pool of threads, and accelerate asks for more than one without this.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()

    def train(name: str, batch_size: int, config: str) -> None:
        torch.set_num_threads(1)
        AcceleratorState._reset_state(reset_partial_state=True)
        run("recognition/train_ctc.py", *settings(name, batch_size))
        Trainer(load_train_config(config)).run()

    train("one", 2, configs[0])
    # Forks, so that nothing is imported twice; gloo joins them.
    debug_launcher(train, ("two", 1, configs[1]), num_processes=2)
    torch.set_num_threads(before)

    logs = []
    for name in ("one", "two"):
        log = json.loads((tmp_path / name / "final" / "log.json").read_text())
        logs.append([entry for entry in log if "eval_loss" in entry])
    for one, two in zip(*logs, strict=True):
        assert one["epoch"] == two["epoch"]  # each process saw its half of the rows
        assert one["eval_words"] == two["eval_words"]  # and evaluated its half of dev
        assert two["eval_loss"] == pytest.approx(one["eval_loss"], rel=0.1)

    states = [load_file(tmp_path / f"codec-{n}" / "state.safetensors") for n in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        apart = (states[1][name] - value).abs() > 1e-3 + 1e-3 * value.abs()
        # Float near-ties move a frame from one code to another.
        assert apart.float().mean() <= (0.1 if "quantizer" in name or "extra" in name else 0), name
    logs = [
        [json.loads(line) for line in (tmp_path / f"codec-{n}" / "log.jsonl").open()]
        for n in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1])  # one process writes
    joint = [next(entry for entry in log if entry["stage"] == "joint") for log in logs]
    for name in ("reconstruction", "commitment", "small:layers", "perplexity_0"):
        assert joint[1][name] == pytest.approx(joint[0][name], rel=1e-2)
    assert (tmp_path / "codec-two" / "adapter-small").is_dir()


def test_an_adapter_for_a_model_that_exists(codes, codec, clips, tmp_path) -> None:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (tmp_path / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(letters)}))
    base, folder = tmp_path / "base", tmp_path / "out"
    Wav2Vec2CTCTokenizer(tmp_path / "vocab.json").save_pretrained(base)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=len(letters),
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(base)
    run(
        "recognition/train_ctc.py", "--codes", codes, "--dev", codes, "--out", folder, "--base",
        base, "--batch-size", 2, "--eval-steps", 2, "--max-steps", 2, "--num-quantizers", 2,
    )  # fmt: skip
    reader = load_recogniser(str(base), str(folder / "adapter"))  # which checks the base's weights
    assert isinstance(reader, CTCRecogniser)
    assert isinstance(reader.transcribe_codes([encode_audio(codec, clips[0].samples, 2)])[0], str)
    trained = load_file(folder / "checkpoint-2" / "model.safetensors")
    before = load_file(base / "model.safetensors")
    assert torch.equal(trained["lm_head.weight"], before["lm_head.weight"])


def test_joined_recordings_keep_their_numbers() -> None:
    from train_small import joined

    samples = [np.full(count, value, np.float32) for count, value in ((900, 0.5), (640, 0.25))]
    first = Recordings.from_clips(samples, torch.device("cpu"), ["a", "b"])
    last = Recordings.from_clips([np.zeros(700, np.float32)], torch.device("cpu"), ["c"])
    both = joined(first, last)
    assert both.texts == ["a", "b", "c"]
    assert both.cropped.tolist() == [False] * 3
    for i, expected in enumerate((*samples, np.zeros(700))):
        np.testing.assert_allclose(both.samples(i), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["codes", "log-mel"])
def test_a_small_recogniser_and_its_twin(kind, codec, clips, tmp_path, monkeypatch) -> None:
    import train_small as recipe

    tiny = [("tiny.en", "vqasr-base-whisper-tiny.en")]
    config = write_config(
        training_data(tmp_path), "small", frozen=True, autoencoder=0, joint=2, recognisers=tiny
    )
    start = ("--start", "ctc-small") if kind == "codes" else ("--layers", "1", "--inner", "64")
    if kind == "log-mel":  # beside recordings of the data, in the first of two steps
        start += ("--synthetic", str(tmp_path / "speech.parquet"), "--synthetic-until", "0.5")
    monkeypatch.setattr("sys.argv", ["train_small.py", str(config), "--input", kind, *start])
    drawn_from, pieces = [], Batches.pieces

    def pieces_of(batches, step):
        drawn_from.append(len(batches.recordings))
        return pieces(batches, step)

    monkeypatch.setattr(Batches, "pieces", pieces_of)
    recipe.main()
    assert drawn_from == ([20, 10] if kind == "log-mel" else [10, 10])
    out = tmp_path / f"small-{kind}"
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in log] == [("ctc", 2), ("dev", 2)]
    before = load_file(out / "state.safetensors")
    recipe.main()  # finished: trains nothing
    after = load_file(out / "state.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    if kind == "codes":
        reader = load_recogniser(str(out / "final"))
        text = reader.transcribe_codes([encode_audio(codec, clips[0].samples, 4)])[0]
        assert isinstance(text, str)
        old = load_recogniser("ctc-small").model  # two steps ago
        dense = "encoder.layers.1.feed_forward.output_dense.weight"
        for name, parameter in (
            ("base.lm_head.weight", old.lm_head.weight),
            (f"base.wav2vec2.{dense}", old.get_parameter(dense)),
            ("reader.embedder.to_embedding.weight", old.embedder.to_embedding.weight),
        ):
            difference = (after[f"ctc.{name}"] - parameter).norm() / parameter.norm()
            assert 0 < difference < 0.3, name
    else:
        assert "reader.conv1.weight" in load_file(out / "final" / "model.safetensors")


def through(layers, hidden: torch.Tensor, *arguments: None) -> torch.Tensor:
    for layer in layers:
        out = layer(hidden, *arguments)
        hidden = out[0] if isinstance(out, tuple) else out  # this differs among transformers
    return hidden


@torch.inference_mode()
def test_layers_of_whisper_in_wav2vec2() -> None:
    import from_whisper as recipe

    whisper = WhisperForConditionalGeneration(
        WhisperConfig(d_model=48, encoder_layers=3, encoder_attention_heads=4, encoder_ffn_dim=96)
    ).eval()
    for name, parameter in whisper.model.encoder.layers.named_parameters():
        parameter.data = torch.randn_like(parameter) * (0.3 if name.endswith("weight") else 0.1)
    hidden = torch.randn(2, 20, 48)
    expected = through(whisper.model.encoder.layers[:2], hidden, None)
    for inner, equal in ((96, True), (80, False)):
        model = Wav2Vec2ForCTC(recipe.make_config(48, 4, 31, 2, inner)).eval()
        recipe.copy_layers(whisper, model)
        output = through(model.wav2vec2.encoder.layers, hidden)
        assert torch.allclose(output, expected, atol=1e-4) == equal
        # A narrower feed-forward changes the output a little.
        assert (output - expected).norm() < 0.5 * (expected - hidden).norm()


@pytest.mark.parametrize("tune", ["adapter", "lora", "all"])
def test_whisper(tune, codes, codec, clips, recogniser, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("blend.SHARES", (0.0, 1.0))
    run(
        "transcription/train_whisper.py", "--codes", codes, "--dev", codes, "--out", tmp_path,
        "--tune", tune, "--max-steps", 2, "--eval-steps", 2, "--batch-size", 1,
        "--num-quantizers", 2, "--dev-rows", 1,
    )  # fmt: skip
    tuned = tmp_path / "whisper"
    assert tuned.is_dir() == (tune != "adapter")
    reader = load_recogniser(str(tuned) if tuned.is_dir() else "tiny.en", str(tmp_path / "adapter"))
    assert isinstance(reader, WhisperRecogniser)
    # Two careful steps change weights, but not the words of an easy clip.
    assert reader.embedder_fingerprint() != recogniser.embedder_fingerprint()
    clip_codes = [encode_audio(codec, clips[1].samples, 2)]
    assert (
        reader.transcribe_codes(clip_codes)[0].split()[:3]
        == (recogniser.transcribe_codes(clip_codes)[0].split()[:3])
    )
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["metrics"] == {}  # not those of the initial adapter
    assert config["base_model_name_or_path"] == (str(tuned) if tuned.is_dir() else "tiny.en")
    if tuned.is_dir():
        with pytest.raises(RecogniserError, match="no adapter ships"):
            load_recogniser(str(tuned))
        with pytest.raises(RecogniserError, match="weights are not those"):
            load_recogniser("tiny.en", str(tmp_path / "adapter"))
        before = recogniser.whisper.model.state_dict()
        after = reader.whisper.model.state_dict()
        changed = {n for n, v in after.items() if not v.equal(before[n])}
        assert changed
        assert not any("conv" in name for name in changed) or tune == "all"


def test_how_words_are_written_does_not_count(recogniser) -> None:
    from written_words import WrittenWords

    tokenizer = recogniser.whisper.tokenizer
    words = WrittenWords(tokenizer)

    def ids(*pieces: str) -> list[int]:
        return [tokenizer(p, add_special_tokens=False).input_ids[0] for p in pieces]

    end = tokenizer.eos_token_id
    cases = [  # predicted, label, whether it counts
        (*ids(",", " and"), False),  # punctuation where the transcript goes on
        (*ids(" And", " and"), False),
        (*ids(" Gill", " g"), False),  # a name's tokens are others in lower case
        (*ids(" and", " and"), True),
        (*ids(" the", " and"), True),
        (ids(".")[0], end, False),
        (end, ids(" and")[0], True),
        (ids(" and")[0], end, True),
        (ids(",")[0], -100, True),  # stays -100
    ]
    predicted, labels = (torch.tensor([[case[i] for case in cases]]) for i in (0, 1))
    expected = [label if counts else -100 for _, label, counts in cases]
    assert words.counted(predicted, labels).tolist() == [expected]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "written"),
    [
        ("HE SAID I WILL COME", "He said, I will come", "He said, I will come."),
        (
            "INSERTING THE BLADE AVOIDED IT",
            "Inserting the plate, avoided it!",
            "Inserting the blade, avoided it!",
        ),
        ("TWO APPLES", "2 apples.", ""),  # Whisper counts in another way
        ("SO", "", "So."),
    ],
)
def test_transcripts_as_whisper_writes(reference, hypothesis, written) -> None:
    from as_whisper_writes import as_written

    assert as_written(reference, hypothesis) == written
