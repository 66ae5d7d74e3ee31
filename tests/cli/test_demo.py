"""Compare the demo's hypotheses at the highest rates with the references."""

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.cli.demo import demo_clip
from vqasr.evaluation.error_rates import word_errors


def test_high_rates_have_low_wer(codec, recogniser, clips) -> None:
    ctc = CTCRecogniser.from_pretrained("ctc-small")
    hypotheses = {"8 codebooks": [], "4, ctc-small": []}
    for clip in clips[1:2]:
        lines = {line.system: line for line in demo_clip(clip, codec, recogniser, ctc)}
        for system, texts in hypotheses.items():
            line = lines[system]
            texts.append(line.text)
            assert line.bytes < lines["uncompressed"].bytes / 50
            assert line.coded_bps == 8 * line.bytes / (len(clip.samples) / 16_000)
    references = [clip.text for clip in clips[1:2]]
    scores = [word_errors(references, texts) for texts in hypotheses.values()]
    wers = [errors / words for errors, words in scores]
    assert wers[0] < 0.06, hypotheses
    assert wers[1] < 0.75, hypotheses  # without a language model
