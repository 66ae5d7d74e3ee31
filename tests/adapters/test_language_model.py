"""Beam search with a word n-gram, and the n-gram itself."""

import gzip
import lzma
import shutil
import sys

import pytest
import torch
import train_lm as ngram
from hypothesis import given
from hypothesis import strategies as st
from train_ctc import make_pieces

from vqasr.adapters import load_recogniser
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.ctc_tokens import CTCTokens
from vqasr.adapters.language_model import FILE, BeamSearch, unigrams
from vqasr.assets import ASSETS
from vqasr.compression.compress import compress
from vqasr.errors import RecogniserError
from vqasr.evaluation.error_rates import word_errors
from vqasr.evaluation.system_names import make_system, with_greedy
from vqasr.names import check_choices, split_name


@pytest.fixture(scope="module")
def with_lm() -> CTCRecogniser:
    pytest.importorskip("flashlight")
    return load_recogniser("ctc-small+lm")


def test_fewer_errors_than_the_likeliest_letters(with_lm, codec, clips) -> None:
    codes = [compress(clip.samples, codec=codec, num_quantizers=4).codes for clip in clips[:4]]
    references = [clip.text for clip in clips[:4]]
    greedy, _ = word_errors(references, with_lm.greedy().transcribe_codes(codes))
    searched, _ = word_errors(references, with_lm.transcribe_codes(codes))
    assert searched < 0.8 * greedy
    texts = with_lm.transcribe_codes(codes, batch_size=1)
    assert texts == with_lm.transcribe_codes(codes)
    known = set(unigrams(lzma.decompress((ASSETS / "ctc-small" / FILE).read_bytes()).decode()))
    assert set(" ".join(texts).split()) <= known


def test_words_have_times(with_lm, codec, clips) -> None:
    codes = compress(clips[0].samples, codec=codec, num_quantizers=4).codes
    (segments,) = with_lm.segments_of_codes(codes)
    assert " ".join(s.text for s in segments) == with_lm.transcribe_codes(codes)[0]
    ends = [t for s in segments for t in (s.start_s, s.end_s)]
    assert ends == sorted(ends)
    assert ends[-1] <= len(clips[0].samples) / 16_000


@pytest.mark.parametrize("kind", ["letters", "pieces"])
def test_the_last_word_is_whole(with_lm, kind, tmp_path) -> None:
    """Tokens that are certain, of letters without a space at the end."""
    tokens, search = with_lm.tokens, with_lm.search
    if kind == "pieces":
        words = ["bread", "before", "breakfast", "for", "a", "bear"]
        tokens = CTCTokens(make_pieces(words, 25))
        (tmp_path / "own.arpa").write_text(ngram.KneserNey([words, words], 2).arpa())
        search = BeamSearch(tmp_path / "own.arpa", tokens)
    path = [tokens.blank]
    for name in [*tokens.of_word("bread"), *tokens.of_word("before")]:
        path += [tokens.names.index(name), tokens.blank]
    logits = torch.full((len(path), len(tokens.names)), -9.0)
    logits[range(len(path)), path] = 9.0
    found = search.words(logits, 0.02)
    assert [word.text for word in found] == ["bread", "before"]
    assert found[0].end_s <= found[1].start_s < found[1].end_s <= 0.02 * len(path)
    silence = torch.eye(len(tokens.names))[[tokens.blank] * 9] * 30
    assert search.words(silence, 0.02) == []


def test_evaluation_shows_both(with_lm, codec, clips) -> None:
    names = with_greedy(["text", "vqasr:4"], with_lm)
    assert names == ["text", "vqasr:4", "vqasr:4+greedy"]
    assert with_greedy(["vqasr:4"], with_lm.greedy()) == ["vqasr:4"]
    assert with_lm.fingerprint() != with_lm.greedy().fingerprint()  # results are kept apart
    samples = [clips[0].samples]
    searched, greedy = (
        make_system(name, codec, with_lm).run(samples, 1).texts for name in names[1:]
    )
    assert (
        searched != greedy == make_system("vqasr:4", codec, with_lm.greedy()).run(samples, 1).texts
    )


def test_what_is_missing_is_said(with_lm, tmp_path, monkeypatch) -> None:
    model = tmp_path / "model"
    shutil.copytree(ASSETS / "ctc-small", model)
    packed = lzma.compress(b"\\data\\\n")
    broken = (packed[:-9], b"\xfd7zXZ", b"\x1f\x8b broken", gzip.compress(b"\xff\xff"))
    for content in (b"", b"no words", packed, *broken):
        (model / FILE).write_bytes(content)
        with pytest.raises(RecogniserError, match=r"ARPA|no word"):
            load_recogniser(f"{model}+lm")
    (model / FILE).unlink()
    with pytest.raises(RecogniserError, match="has no language model"):
        load_recogniser(f"{model}+lm")
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(RecogniserError, match=r"vqasr\[lm\]"):
        BeamSearch(ASSETS / "ctc-small" / FILE, with_lm.tokens)


def test_a_language_model_of_ones_own(codec, clips, tmp_path, monkeypatch) -> None:
    """A file beside the model, plain or packed; its words alone are found."""
    pytest.importorskip("flashlight")
    words = tmp_path / "words.txt"
    words.write_text(f"{clips[0].text}\n{clips[1].text}\n")
    packed, plain = tmp_path / "own.arpa.xz", tmp_path / "own.arpa"
    command = ["train_lm.py", "--texts", words, "--out", packed]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    ngram.main()
    plain.write_bytes(lzma.decompress(packed.read_bytes()))
    codes = [compress(clip.samples, codec=codec, num_quantizers=4).codes for clip in clips[:2]]
    words.write_bytes(b"caf\xe9")
    with pytest.raises(SystemExit, match="UTF-8"):
        ngram.main()
    texts = [
        load_recogniser(f"ctc-small+lm:{path}").transcribe_codes(codes) for path in (packed, plain)
    ]
    assert texts[0] == texts[1]
    errors, count = word_errors([clip.text for clip in clips[:2]], texts[0])
    assert errors < 0.2 * count


ARPA = ngram.KneserNey([["the", "cat", "sat"], ["a", "cat"]], 2).arpa()


@pytest.mark.parametrize(
    "arpa",
    [
        ARPA.replace("ngram 1=7", "ngram 1=9"),
        ARPA[:150],
        ARPA.replace("<s>", "<x>"),
        ARPA.replace("-", ""),
        ARPA.replace("\t", " "),
        ARPA.replace("\n\n", "\n"),
        ARPA.replace("\\2-grams:", "\\7-grams:"),
        "\\data\\\nngram 1=0\n\n\\1-grams:\n\n\\end\\\n",
    ],
)
def test_broken_files_are_refused(with_lm, arpa, tmp_path) -> None:
    (tmp_path / "own.arpa").write_text(arpa)
    with pytest.raises(RecogniserError, match=r"^\S+/own\.arpa: [^\n]+$"):
        BeamSearch(tmp_path / "own.arpa", with_lm.tokens)


def test_files_of_others(with_lm, tmp_path) -> None:
    """Windows ends lines in its own way; capitals cannot be found."""
    path = tmp_path / "own.arpa"
    path.write_bytes(b"\xef\xbb\xbf" + ARPA.replace("\n", "\r\n").encode())
    packed = tmp_path / "own.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    searches = [BeamSearch(p, with_lm.tokens) for p in (path, packed)]
    assert searches[0].fingerprint == searches[1].fingerprint != with_lm.search.fingerprint
    path.write_text(ARPA.upper().replace("\\DATA", "\\data").replace("NGRAM", "ngram"))
    path.write_text(path.read_text().replace("-GRAMS", "-grams").replace("<S>", "<s>"))
    with pytest.raises(RecogniserError, match="lower case"):
        BeamSearch(path, with_lm.tokens)
    with pytest.raises(RecogniserError, match=r"none\.arpa: cannot be read"):
        BeamSearch(tmp_path / "none.arpa", with_lm.tokens)


def test_names() -> None:
    assert split_name("ctc-small") == ("ctc-small", None)
    assert split_name("runs/a+lm/final") == ("runs/a+lm/final", None)
    assert split_name("runs/a+lm/final+lm") == ("runs/a+lm/final", "")
    assert split_name("ctc-small+lm:a:b.arpa") == ("ctc-small", "a:b.arpa")
    assert split_name("ctc-small+lm:my+lm") == ("ctc-small", "my+lm")
    with pytest.raises(RecogniserError, match="names no language model"):
        split_name("ctc-small+lm:")
    with pytest.raises(RecogniserError, match="no languages"):
        check_choices("ctc-small+lm:a.arpa", "fr", None)


WORDS = st.sampled_from("abcde")


@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_probabilities_sum_to_one(sentences, order, least_count) -> None:
    model = ngram.KneserNey(sentences, order, least_count)
    words = [gram[0] for gram in model.probability[0]]
    histories = [(), *(h for backoff in model.backoff[1:] for h in backoff), ("a", "<unk>")]
    for history in histories:
        if len(history) < order:
            assert sum(model(history, word) for word in words) == pytest.approx(1.0)
    assert "nan" not in model.arpa()


def test_a_language_model_of_transcripts() -> None:
    sentences = ngram.sentences_of(["The CAT sat.", "room 7", "the cat\u2019s bed"])
    assert sentences == [["the", "cat", "sat"], ["the", "cat's", "bed"]]
    text = ngram.KneserNey(sentences, 2).arpa()
    assert set(unigrams(text)) == {"the", "cat", "sat", "cat's", "bed"}
    counts = [int(line.split("=")[1]) for line in text.splitlines() if line.startswith("ngram")]
    assert counts == [8, 7]  # <s>, </s> and <unk> are words too
    rare = ngram.KneserNey([*sentences, sentences[0]], 2, 2).probability[1]
    assert sorted(rare) == [("<s>", "the"), ("cat", "sat"), ("sat", "</s>"), ("the", "cat")]
