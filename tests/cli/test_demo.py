"""Compare the demo's hypotheses at the highest rates with the reference."""

from vqasr.cli.demo import demo_clip
from vqasr.evaluation.error_rates import word_errors


def test_high_rates_have_low_wer(codec, recogniser, ctc, clips) -> None:
    clip = clips[1]
    lines = {line.system: line for line in demo_clip(clip, codec, recogniser, ctc)}
    for system, most in (("8 codebooks", 0.06), ("4, ctc-small", 0.75)):
        line = lines[system]
        assert line.bytes < lines["uncompressed"].bytes / 50
        assert line.coded_bps == 8 * line.bytes / (len(clip.samples) / 16_000)
        errors, words = word_errors([clip.text], [line.text])
        assert errors / words < most, line.text
