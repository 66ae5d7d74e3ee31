"""The demo's transcripts at the highest rate against what was said."""

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.cli.demo import demo_clip
from vqasr.evaluation.error_rates import word_errors


def test_high_rates_say_what_was_said(codec, recogniser, clips) -> None:
    ctc = CTCRecogniser.from_pretrained("ctc-small")
    found = {"8 codebooks": [], "4, ctc-small": []}
    for clip in clips[:5]:
        lines = {line.system: line for line in demo_clip(clip, codec, recogniser, ctc)}
        for system, texts in found.items():
            line = lines[system]
            texts.append(line.text)
            assert line.bytes < lines["uncompressed"].bytes / 50
            assert line.coded_bps == 8 * line.bytes / (len(clip.samples) / 16_000)
    wers = [
        errors / words
        for errors, words in (word_errors([c.text for c in clips[:5]], t) for t in found.values())
    ]
    assert wers[0] < 0.06, found
    assert wers[1] < 0.75, found  # it spells as it hears
