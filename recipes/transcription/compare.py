"""Compare word error rates on the same utterances, with paired 95 % intervals.

python recipes/transcription/compare.py runs/before/systems/vqasr-2.json \\
    runs/after/systems/vqasr-2.json --data ../shared/speech/test_nonnative-00000-of-00001.parquet
"""

import argparse
import json
from pathlib import Path

import numpy as np

from vqasr.data.speech import load_speech
from vqasr.evaluation.error_rates import Scores, score
from vqasr.evaluation.intervals import bootstrap_groups, bootstrap_intervals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="from systems/ in a folder of `vqasr evaluate`")
    parser.add_argument("after", type=Path, nargs="+", help="the same, of the same utterances")
    parser.add_argument("--data", required=True, help="the evaluated data set, for its speakers")
    arguments = parser.parse_args()
    before = load_scores(arguments.before)
    groups, over = bootstrap_groups(before, load_speech(arguments.data)["speaker"][:])
    for path in [arguments.before, *arguments.after]:
        scores = load_scores(path)
        measures = np.stack([scores.errors, scores.errors - before.errors])
        wer, difference = bootstrap_intervals(measures, scores.words, groups)
        words = scores.words.sum()
        rate, change = scores.errors.sum() / words, measures[1].sum() / words
        print(f"{path}: {percent([rate])} % ({percent(wer)}), ", end="")
        print(f"{percent([change])} ({percent(difference)})")
    print(f"intervals over {over}")


def load_scores(path: Path) -> Scores:
    """Score the transcripts of a system."""
    pairs = json.loads(path.read_text())["transcripts"]
    return score([p["text"] for p in pairs], [p["hypothesis"] for p in pairs])


def percent(fractions: list[float] | None) -> str:
    """Format fractions in percent."""
    return "-" if fractions is None else " to ".join(f"{100 * f:.1f}" for f in fractions)


if __name__ == "__main__":
    main()
