"""Make the language model of a CTC recogniser: a word n-gram of the training transcripts.

python recipes/recognition/train_lm.py --data ../shared/speech/train*.parquet \\
    --transcripts runs/ctc-small-codes/transcripts.json --out runs/ctc-small-codes/final
python recipes/recognition/train_lm.py --texts words.txt --out words.arpa.xz

Interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999), one discount for
each order. KenLM's own estimator is not in the registry's package, and nltk's writes no ARPA.
"""

import argparse
import json
import lzma
import math
import re
from collections import Counter
from pathlib import Path

from vqasr.adapters.language_model import FILE
from vqasr.data.speech import load_speech
from vqasr.files import replace_file

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
Gram = tuple[str, ...]


class KneserNey:
    """An n-gram of sentences, each a list of words.

    N-grams of the highest order that are seen less than `least_count` times are left out.

    Attributes:
        probability: for each order, {n-gram: probability of its last word after the others}.
        backoff: for each order, {history: factor of the next lower order}; order 1 has none.
    """

    def __init__(self, sentences: list[list[str]], order: int, least_count: int = 1):
        marked = [[START, *words, END] for words in sentences]
        counts = [
            Counter(tuple(s[i : i + n]) for s in marked for i in range(len(s) - n + 1))
            for n in range(1, order + 1)
        ]
        self.probability: list[dict[Gram, float]] = []
        self.backoff: list[dict[Gram, float]] = []
        for n, own in enumerate(counts, 1):
            used = own if n == order else before_it(own, counts[n])
            counted = {gram: c for gram, c in used.items() if gram != (START,)}
            self._add(n, counted, least_count if 1 < n == order else 1)

    def _add(self, n: int, counts: dict[Gram, int], least_count: int) -> None:
        frequencies = Counter(counts.values())
        once, twice = frequencies[1], frequencies[2]
        discount = once / (once + 2 * twice) if once else 0.5  # tiny data may have no such n-gram
        total: Counter[Gram] = Counter()
        for gram, count in counts.items():
            total[gram[:-1]] += count
        kept = {gram: count for gram, count in counts.items() if count >= least_count}
        used: Counter[Gram] = Counter()
        for gram, count in kept.items():
            used[gram[:-1]] += count - discount  # type: ignore[assignment]  # a float
        rest = {history: 1 - used[history] / total[history] for history in total}
        size = len(counts) + 1  # the unknown word is one more
        probability = {
            gram: (count - discount) / total[gram[:-1]]
            + rest[gram[:-1]] * (1 / size if n == 1 else self.probability[-1][gram[1:]])
            for gram, count in kept.items()
        }
        if n == 1:
            probability[UNKNOWN,] = rest[()] / size
            rest = {}
        self.probability.append(probability)
        self.backoff.append(rest)

    def __call__(self, history: Gram, word: str) -> float:
        """Return the probability of a word after a history shorter than the order."""
        gram = (*history, word)
        table = self.probability[len(history)]
        if gram in table:
            return table[gram]
        return self.backoff[len(history)].get(history, 1.0) * self(history[1:], word)

    def arpa(self) -> str:
        """Write as an ARPA file."""
        lines = ["\\data\\"]
        tables = [dict(table) for table in self.probability]
        tables[0][START,] = 10.0**-99
        lines += [f"ngram {n}={len(table)}" for n, table in enumerate(tables, 1)]
        for n, table in enumerate(tables, 1):
            lines += ["", f"\\{n}-grams:"]
            for gram, probability in sorted(table.items()):  # neighbours are compressed well
                line = f"{math.log10(probability):.2f}\t{' '.join(gram)}"
                if n < len(tables) and gram in self.backoff[n]:
                    line += f"\t{math.log10(self.backoff[n][gram]):.2f}"
                lines.append(line)
        return "\n".join([*lines, "", "\\end\\", ""])


def before_it(own: Counter[Gram], longer: Counter[Gram]) -> dict[Gram, int]:
    """Count the different words before each n-gram; nothing is before a sentence's start."""
    kinds = Counter(gram[1:] for gram in longer)
    return {gram: count if gram[0] == START else kinds[gram] for gram, count in own.items()}


def sentences_of(texts: list[str]) -> list[list[str]]:
    """Split transcripts without digits into lower-case words."""
    straight = str.maketrans("\u2018\u2019", "''")  # apostrophes
    kept = (text.lower().translate(straight) for text in texts if not re.search(r"\d", text))
    return [words for text in kept if (words := re.findall(r"[a-z']+", text))]


def read_lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{name}: no text in UTF-8 ({error})") from error


def write(arpa: str, out: Path) -> int:
    """Write an ARPA file, packed but for a name that ends in .arpa; return its bytes."""
    data = arpa.encode()
    packed = data if out.suffix == ".arpa" else lzma.compress(data, preset=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, packed)
    return len(packed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=[], help="data with the column text")
    parser.add_argument(
        "--texts", nargs="+", default=[], help="UTF-8 files with a sentence in a line"
    )
    parser.add_argument("--transcripts", help="of rows without text: transcripts.json of a run")
    parser.add_argument("--least", type=float, default=-0.4, help="log-probability of those")
    parser.add_argument("--order", type=int, default=3, choices=range(2, 7))
    parser.add_argument(
        "--least-count", type=int, default=1, help="rarer n-grams of the highest order are left out"
    )
    parser.add_argument("--out", required=True, help="folder of the model, or .arpa or .arpa.xz")
    arguments = parser.parse_args()
    texts = [text or "" for text in load_speech(arguments.data)["text"]] if arguments.data else []
    texts += [line for name in arguments.texts for line in read_lines(name)]
    if arguments.transcripts:
        made = json.loads(Path(arguments.transcripts).read_text())["transcripts"]
        texts += [text for text, score in made.values() if score >= arguments.least]
    sentences = sentences_of(texts)
    if not sentences:
        raise SystemExit("no sentences: give --data or --texts with words and without digits")
    model = KneserNey(sentences, arguments.order, arguments.least_count)
    out = Path(arguments.out)
    size = write(model.arpa(), out if out.suffix in (".arpa", ".xz") else out / FILE)
    words, left = sum(map(len, sentences)), sum(map(bool, texts)) - len(sentences)
    print(f"{words} words of {len(sentences)} sentences, {size} bytes; {left} left out (digits)")


if __name__ == "__main__":
    main()
