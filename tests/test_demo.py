"""The demo's transcripts at the highest rate against what was said."""

from vqasr.demo import demo_clip
from vqasr.metrics import word_errors


def test_highest_rate_says_what_was_said(codec, recogniser, clips) -> None:
    texts, hypotheses = [], []
    for clip in clips:
        lines = demo_clip(clip, codec, recogniser)
        texts.append(clip.text)
        hypotheses.append(lines[-1].text)
        assert lines[-1].bytes < lines[0].bytes / 50
        assert lines[-1].coded_bps == 8 * lines[-1].bytes / (len(clip.samples) / 16_000)
    errors, words = word_errors(texts, hypotheses)
    assert errors / words < 0.06, hypotheses
