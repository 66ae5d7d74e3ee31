"""No door to the recognisers lets an invention through: silence, noise, loops, endless text."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import torch
from cli_helpers import vqasr
from transformers import pipeline

from vqasr import Transcriber
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.guards import COPIES, LOOP_TOKENS, MORE_TOKENS, TOKENS_PER_S, LoopGuard
from vqasr.adapters.pipeline import CodesPipeline
from vqasr.adapters.processor import CodesProcessor
from vqasr.adapters.whisper import to_features
from vqasr.cli.demo import Clip, demo_clip
from vqasr.compression.compress import compress
from vqasr.errors import InvalidCodesError
from vqasr.evaluation.system_names import make_system

SOME_SOUNDS = ("harmonics", "-30 dB", "tone", "zeros")
TASK = "automatic-speech-recognition"
GREEDY = {"generate_kwargs": {"num_beams": 1}}
LENGTHS_S = (0.04, 0.5, 6.0, 31.0)
RATES = ({"num_quantizers": 1}, {"num_quantizers": 4}, {"bps": 250.0}, {"num_quantizers": 8})


def silent_sounds(seconds: float) -> dict[str, np.ndarray]:
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    hiss = np.random.default_rng(7).standard_normal(len(time_s))
    harmonics = np.arange(1, 9)[:, None]
    hum = (np.sin(2 * np.pi * 60 * harmonics * time_s) / harmonics).sum(0)
    sounds = {
        "zeros": 0 * time_s,
        "-60 dB": 1e-3 * hiss,
        "-30 dB": 10**-1.5 * hiss,
        "DC": 0 * time_s + 0.5,
        "hum": 0.1 * np.sin(2 * np.pi * 50 * time_s),
        "harmonics": 0.1 * hum,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time_s),
        "one bit": (hiss > 0) / 32768,
    }
    return {name: wave.astype(np.float32) for name, wave in sounds.items()}


@pytest.fixture(scope="module")
def doors(codec, recogniser, ctc, tmp_path_factory) -> dict[str, Callable]:
    """Functions of a list of sounds and a rate, which return their texts."""
    tokenizer = recogniser.whisper.tokenizer

    def extractor(rate) -> CodesFeatureExtractor:
        features = CodesFeatureExtractor("vqasr-base", **rate)
        features._model = codec
        return features

    def run(model, words_of, **settings) -> Callable:
        def transcribe(sounds, rate) -> list[str]:
            piped = pipeline(
                TASK, model=model, tokenizer=words_of, feature_extractor=extractor(rate),
                pipeline_class=CodesPipeline,
            )  # fmt: skip
            results = piped(sounds, **settings)
            for result in results:
                parts = "".join(chunk["text"] for chunk in result.get("chunks", []))
                assert bool(parts.strip()) == (bool(result["text"].strip()) and "chunks" in result)
            return [result["text"] for result in results]

        return transcribe

    def generate(sounds, rate) -> list[str]:
        inputs = CodesProcessor(extractor(rate), tokenizer)(sounds)
        ids = recogniser.model.generate(**inputs, num_beams=1)
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    def transcriber(**settings) -> Callable:
        loaded = Transcriber(codec=codec)
        return lambda sounds, rate: [loaded(s, **rate, **settings).text for s in sounds]

    def command(sounds, rate) -> list[str]:
        folder = tmp_path_factory.mktemp("sounds")
        paths = [folder / f"{number}.wav" for number in range(len(sounds))]
        for path, sound in zip(paths, sounds, strict=True):
            soundfile.write(path, sound, 16_000, subtype="FLOAT")
        option = [f"--{name.replace('_', '-')}={value}" for name, value in rate.items()]
        results = json.loads(vqasr("transcribe", *paths, *option, "--json").stdout)
        return [result["text"] for result in results]

    def codes_of(sounds, rate) -> list[np.ndarray]:
        return [compress(sound, codec=codec, **rate).codes for sound in sounds]

    return {
        "generate": generate,
        "pipeline": run(recogniser.model, tokenizer, **GREEDY),
        "pipeline in batches": run(recogniser.model, tokenizer, batch_size=4, **GREEDY),
        "pipeline in chunks": run(
            recogniser.model, tokenizer, chunk_length_s=10, ignore_warning=True, **GREEDY
        ),
        "pipeline with segments": run(
            recogniser.model, tokenizer, return_timestamps=True, **GREEDY
        ),
        "pipeline with words": run(
            recogniser.model, tokenizer, return_timestamps="word", **GREEDY
        ),
        "pipeline of CTC": run(ctc.model, ctc.tokenizer),
        "pipeline of CTC with words": run(ctc.model, ctc.tokenizer, return_timestamps="word"),
        "command": command,
        "Transcriber": transcriber(),
        "Transcriber with segments": transcriber(timestamps=True),
        "evaluation": lambda sounds, rate: recogniser.transcribe_codes(codes_of(sounds, rate)),
        "CTC": lambda sounds, rate: ctc.transcribe_codes(codes_of(sounds, rate)),
    }  # fmt: skip


DOORS = [
    "generate", "pipeline", "pipeline in batches", "pipeline in chunks", "pipeline with segments",
    "pipeline with words", "pipeline of CTC", "pipeline of CTC with words", "command",
    "Transcriber", "Transcriber with segments", "evaluation", "CTC",
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_without_speech_there_is_no_text(door, doors) -> None:
    for rate, seconds, most in zip(RATES, LENGTHS_S, (4, 4, 2, 1), strict=True):
        if seconds > 30 and door == "generate":
            continue  # takes one window, as in transformers
        sounds = silent_sounds(seconds)  # the next test has all of them, for 6 s
        sounds = {name: sounds[name] for name in SOME_SOUNDS[:most]}
        texts = [text.strip() for text in doors[door](list(sounds.values()), rate)]
        assert dict(zip(sounds, texts, strict=True)) == dict.fromkeys(sounds, ""), seconds


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_without_speech_there_is_no_text_at_any_rate(rate, codec, recogniser, ctc) -> None:
    sounds = silent_sounds(6.0)
    codes = [compress(sound, codec=codec, **rate).codes for sound in sounds.values()]
    for reader in (recogniser, ctc):
        assert reader.transcribe_codes(codes) == [""] * len(codes)


@pytest.mark.parametrize("door", DOORS)
def test_short_speech_has_short_text(door, doors, clips) -> None:
    samples = clips[0].samples
    lengths_s = (0.04, 1.0)
    sounds = [samples[8000 : 8000 + round(16_000 * seconds)] for seconds in lengths_s]
    for seconds, text in zip(lengths_s, doors[door](sounds, {"bps": 250.0}), strict=True):
        # A token has 4 letters on average.
        assert len(text) <= 6 * (MORE_TOKENS + TOKENS_PER_S * seconds), text


def test_speech_has_text_at_every_door(doors, clips) -> None:
    # In one batch, where there are any.
    sounds = [clips[0].samples[: 3 * 16_000], np.zeros(16_000, np.float32)]
    for door in DOORS:
        text, silence = doors[door](sounds, {"num_quantizers": 4})
        assert len(text.split()) > 3, door
        assert silence.strip() == "", door


def run_into_loop(phrase: list[int], length: int, guard: LoopGuard, vocabulary: int) -> list[int]:
    """Decode greedily with a model that wants to repeat a phrase for ever."""
    ids = torch.tensor([[7, 8]])
    guard.set_begin_index(2)
    while ids.shape[1] < length:
        scores = torch.zeros(1, vocabulary)
        scores[0, phrase[(ids.shape[1] - 2) % len(phrase)]] = 1.0
        ids = torch.cat([ids, guard(ids, scores).argmax(1, keepdim=True)], 1)
    return ids[0, 2:].tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_loops_are_broken(size) -> None:
    phrase = list(range(10, 10 + size))
    tokens = run_into_loop(phrase, 200, LoopGuard(), 50)
    copies = max(COPIES, LOOP_TOKENS / size) + 1
    endless = [phrase[i % size] for i in range(int(copies * size) + 1)]
    assert all(tokens[i : i + len(endless)] != endless for i in range(len(tokens)))
    assert tokens[: 2 * size] == 2 * phrase


def test_loops_with_timestamps_are_broken() -> None:
    guard = LoopGuard(timestamp_begin=100)
    guard.set_begin_index(0)
    loop = [token for i in range(20) for token in (100 + i, 5, 6, 100 + i + 1)]
    broken = [
        guard(torch.tensor([loop[:n]]), torch.zeros(1, 200))[0, loop[n]] for n in range(40, 44)
    ]
    assert [bool(torch.isinf(score)) for score in broken] == [False, True, True, False]


def test_a_row_is_judged_alone() -> None:
    guard = LoopGuard()
    guard.set_begin_index(0)
    looping, speech = [5] * 40, list(range(40))
    scores = torch.zeros(2, 50)
    judged = guard(torch.tensor([looping, speech]), scores)
    assert torch.isinf(judged[0, 5])
    assert torch.isfinite(judged[1]).all()
    assert torch.isfinite(scores).all()


def test_uncompressed_audio_has_the_same_gate(codec, recogniser, ctc, clips) -> None:
    silent = silent_sounds(4.0)
    sounds = [silent["zeros"], silent["-30 dB"], clips[0].samples]
    texts = make_system("pcm", codec, recogniser).run(sounds, 8).texts
    assert texts[:-1] == [""] * (len(sounds) - 1)
    assert len(texts[-1].split()) > 5
    assert demo_clip(Clip("silence", sounds[0], None), codec, recogniser, ctc)[0].text == ""


def test_padding_on_the_left_is_refused(codec, recogniser, ctc, clips) -> None:
    codes = torch.from_numpy(compress(clips[0].samples, codec=codec, num_quantizers=4).codes)[None]
    mask = torch.ones(1, codes.shape[2], dtype=torch.long)
    mask[:, :5] = 0
    with pytest.raises(InvalidCodesError, match="on the right"):
        ctc.model(codes.transpose(1, 2), attention_mask=mask)
    codes[:, :, :5] = -1
    with pytest.raises(InvalidCodesError, match="on the right"):
        recogniser.model.generate(to_features(codes))


def test_one_clip_is_taken_as_a_list_is(codec, recogniser, ctc, clips) -> None:
    samples = clips[0].samples
    stream = compress(samples, codec=codec, num_quantizers=4)
    for reader in (recogniser, ctc):
        text = reader.transcribe_codes([stream.codes])
        assert reader.transcribe_codes(stream.codes) == text
        assert reader.transcribe_codes(torch.from_numpy(stream.codes)) == text
        assert reader.transcribe_streams(stream) == text
    assert recogniser.transcribe_audio(samples) == recogniser.transcribe_audio([samples])
    with pytest.raises(InvalidCodesError, match="integers"):
        recogniser.transcribe_codes(stream.codes.astype(np.float32))
