"""Is one system's word error rate lower than another's on the same utterances? 95 %, paired.

python recipes/transcription/compare.py runs/before/systems/vqasr-2.json \\
    runs/after/systems/vqasr-2.json --data ../shared/speech/test_nonnative-00000-of-00001.parquet
"""

import vqasr  # noqa: F401 (first: it mends torchaudio where that is broken)

# isort: split
import argparse
import json
from pathlib import Path

import numpy as np

from vqasr.data.speech import load_speech
from vqasr.evaluation.error_rates import Scores, score
from vqasr.evaluation.intervals import bootstrap_intervals, drawn_groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a file in the folder systems/ of an evaluation")
    parser.add_argument("after", type=Path, nargs="+", help="others, of the same utterances")
    parser.add_argument("--data", required=True, help="what was evaluated, for its speakers")
    arguments = parser.parse_args()
    before = scores_of(arguments.before)
    groups, over = drawn_groups(before, load_speech(arguments.data)["speaker"][:])
    for path in [arguments.before, *arguments.after]:
        scores = scores_of(path)
        measures = np.stack([scores.errors, scores.errors - before.errors])
        wer, difference = bootstrap_intervals(measures, scores.words, groups)
        rate = scores.errors.sum() / scores.words.sum()
        change = (scores.errors - before.errors).sum() / scores.words.sum()
        print(f"{path}: {shown([rate])} % ({shown(wer)}), {shown([change])} ({shown(difference)})")
    print(f"intervals over {over}")


def scores_of(path: Path) -> Scores:
    pairs = json.loads(path.read_text())["transcripts"]
    return score([p["text"] for p in pairs], [p["hypothesis"] for p in pairs])


def shown(fractions: list[float] | None) -> str:
    return "-" if fractions is None else " to ".join(f"{100 * f:.1f}" for f in fractions)


if __name__ == "__main__":
    main()
