"""Write transcripts with the punctuation and capitals of Whisper's hypotheses from codes.

vqasr tokenize ../shared/speech/train-*.parquet -o runs/codes/train -n 4
python recipes/transcription/as_whisper_writes.py --codes runs/codes/train --out runs/written.json

The words are the reference's; a word that is also in the hypothesis is written as it is there.
"""

import argparse
import json
import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from rich.progress import Progress

from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.data.tokenized import load_tokenized, row_codes
from vqasr.files import replace_file

SAVED_ROWS = 256  # an interrupted run loses no more
BATCH_SIZE = 16
ENDS = ".?!"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--codes", required=True, nargs="+", help="folders of `vqasr tokenize`")
    parser.add_argument("--out", required=True, type=Path, help="JSON: id -> text")
    parser.add_argument("--asr", default="tiny.en", help="a Whisper")
    parser.add_argument("--adapter", default=None, help="default: the one that ships for it")
    parser.add_argument("--limit", type=int, default=None, help="number of utterances")
    parser.add_argument("--seed", type=int, default=0, help="of their draw")
    arguments = parser.parse_args()
    recogniser = WhisperRecogniser.from_pretrained(arguments.asr, arguments.adapter)
    rows: dict[str, tuple[str, np.ndarray]] = {}
    for folder in arguments.codes:
        data = load_tokenized(folder, recogniser.codec_fingerprint)
        data = data.filter(lambda row: bool(row["text"]) and row["speed"] == 1.0)
        rows |= {row["id"]: (row["text"], row_codes(row)) for row in data}
    order = np.random.default_rng(arguments.seed).permutation(sorted(rows))[: arguments.limit]
    written = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    missing = [str(name) for name in order if str(name) not in written]
    with Progress() as bar:
        task = bar.add_task("transcribing", total=len(missing))
        for start in range(0, len(missing), SAVED_ROWS):
            names = missing[start : start + SAVED_ROWS]
            hypotheses = recogniser.transcribe_codes([rows[n][1] for n in names], BATCH_SIZE)
            for name, text in zip(names, hypotheses, strict=True):
                written[name] = as_written(rows[name][0], text)
            replace_file(arguments.out, json.dumps(written, indent=0).encode())
            bar.advance(task, len(names))


def as_written(reference: str, hypothesis: str) -> str:
    """Write the words of the reference as in Whisper's hypothesis; "" if that has digits."""
    if re.search(r"\d", hypothesis):  # digits do not show how Whisper writes the words
        return ""
    words, pieces = reference.split(), hypothesis.split()
    plain, bare = [_plain(w) for w in words], [_plain(p) for p in pieces]
    result = [word.lower() for word in words] if reference.isupper() else words[:]
    for kind, a, b, c, d in SequenceMatcher(None, plain, bare, False).get_opcodes():
        if kind == "equal":
            result[a:b] = pieces[c:d]
        elif kind == "replace":
            result[b - 1] += re.findall(r"[^\w']*$", pieces[d - 1])[0]  # keep its comma
    if not result:
        return ""
    text = " ".join("I" + word[1:] if re.match(r"i\b", word) else word for word in result)
    text = text[0].upper() + text[1:]
    return text if text[-1] in ENDS else text.rstrip(",;:-") + "."


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9']", "", word.lower())


if __name__ == "__main__":
    main()
