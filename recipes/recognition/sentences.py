"""Cut sentences from two dictionaries of Debian, and from books, for synthetic_speech.py.

apt-get install dict-gcide wordnet-base
python recipes/recognition/sentences.py --out runs/sentences
python recipes/recognition/sentences.py --out runs/sentences --books runs/books/*.txt \
    --without ../shared/speech/{dev,test}*.parquet

Writes quotations and definitions of Webster's dictionary of 1913 (dict-gcide), examples and
glosses of WordNet, one sentence in a line. --books writes books.txt alone, the sentences of plain
text files; --without leaves out what shares six words in a row with the transcripts of recordings.
"""

import argparse
import gzip
import random
import re
from pathlib import Path

import pyarrow.parquet as pq

WEBSTER = Path("/usr/share/dictd/gcide.dict.dz")
WORDNET = Path("/usr/share/wordnet")
# How many sentences of each file are kept.
COUNTS = {"quotations": 17_000, "examples": 6_000, "definitions": 2_600, "glosses": 4_200}
WORDS, LONGEST = range(4, 33), 190  # of a sentence, in words and in characters
# Voices read abbreviations, single letters and capitals in ways that letters do not tell.
UNCLEAR = re.compile(
    r"\b(Mr|Mrs|Dr|St|etc|viz|obs|esp|[A-Za-z]\.[A-Za-z])\b|\.\s*\w|\b[A-Z]{2,}\b"
    r"|(?<!')\b[B-HJ-NP-Zb-hj-np-z]\b|\.\.|(^|\s)['-]|['-](\s|$)|^[a-z ]*:"
)

SPOKEN = {"Mr": "Mister", "Mrs": "Missus", "Dr": "Doctor"}
PLAIN_QUOTES = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}  # of curly ones
COMMON_WORDS = 6  # in a row, shared with a transcript: a quotation of the same text


def is_sentence(text: str) -> bool:
    """Tell whether a text has letters, plain punctuation and a usual length."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z',;:.!? -]*", text) is not None
    return (
        plain and len(text.split()) in WORDS and len(text) <= LONGEST and not UNCLEAR.search(text)
    )


def of_webster(text: str) -> tuple[set[str], set[str]]:
    """Return quotations and definitions of the dictionary's text."""
    quotations, definitions = set(), set()
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        body = re.sub(r"\[[^\]]*\]", " ", " ".join(line.strip() for line in lines))
        quoted = re.match(r"(.*?)\s*--\s*[A-Z].*$", body)
        indent = len(lines[0]) - len(lines[0].lstrip())
        if indent >= 12 or (quoted and indent >= 8):
            spoken = clean(quoted.group(1) if quoted else body)
            quotations |= {s for s in re.split(r"(?<=[.;!?])\s+", spoken) if is_sentence(s)}
        elif indent in (3, 6):
            number_or_field = r"^\(?[a-z0-9]+[.)]\s*|^\([A-Za-z. &]+\)\s*"
            defined = re.sub(number_or_field, "", re.sub(number_or_field, "", body.strip()))
            defined = clean(re.split(r"--|See |Cf\.", defined)[0])
            parts = re.split(r"(?<=[.])\s+|;\s+", defined)
            definitions |= {s for s in parts if is_sentence(s) and len(s.split()) > 4}
    return quotations, definitions


def of_wordnet(folder: Path) -> tuple[set[str], set[str]]:
    """Return examples and glosses of WordNet's data files."""
    examples, glosses = set(), set()
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{kind}").read_text().splitlines():
            gloss = line.partition("|")[2]
            examples |= {s for s in map(clean, re.findall(r'"([^"]+)"', gloss)) if is_sentence(s)}
            plain = re.sub(r'"[^"]*"|\([^)]*\)', "", gloss)
            parts = map(clean, plain.split(";"))
            glosses |= {s for s in parts if is_sentence(s) and len(s.split()) > 4}
    return examples, glosses


def spoken(text: str) -> str:
    """Write titles as they are spoken, and plain quotes."""
    for short, word in SPOKEN.items():
        text = re.sub(rf"\b{short}(\.|\b)", word, text)
    return text.translate(PLAIN_QUOTES)


def of_book(text: str) -> set[str]:
    """Return the sentences of a book's plain text, and the parts of those that are too long."""
    text = re.sub(r"--+|[\[\]()_*\"]|(?<!\w)'|'(?!\w)", " ", spoken(text))
    found = set()
    for paragraph in re.split(r"\n\s*\n", text):
        plain = re.sub(r"\s+(?=[,.;:!?])", "", clean(paragraph))
        for sentence in re.split(r"(?<=[.!?])\s+", plain):
            pieces = [sentence] if is_sentence(sentence) else re.split(r"(?<=[;:])\s+", sentence)
            found |= {piece for piece in pieces if is_sentence(piece)}
    return found


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    """Return every COMMON_WORDS words in a row."""
    words = re.findall(r"[a-z']+", spoken(text).lower())
    return {tuple(words[i : i + COMMON_WORDS]) for i in range(len(words) - COMMON_WORDS + 1)}


def clean(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[{}\"`]", "", text)).strip()


def transcripts(file: str) -> list[str]:
    return [text or "" for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--webster", type=Path, default=WEBSTER, help="of dict-gcide")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="of wordnet-base")
    parser.add_argument("--out", required=True, type=Path, help="folder for the text files")
    parser.add_argument("--books", nargs="+", type=Path, help="plain text files")
    parser.add_argument("--without", nargs="+", default=[], help="parquet files with transcripts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.without and not arguments.books:
        parser.error("--without is for --books")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.books:
        texts = [text for name in arguments.without for text in transcripts(name)]
        kept_out = set().union(*map(runs_of_words, texts))
        found = set().union(*(of_book(book.read_text()) for book in arguments.books))
        sentences = sorted(s for s in found if not runs_of_words(s) & kept_out)
        random.Random(arguments.seed).shuffle(sentences)
        (arguments.out / "books.txt").write_text("\n".join(sentences) + "\n")
        print(f"books: {len(sentences)} of {len(found)}")
        return
    with gzip.open(arguments.webster, "rt", errors="replace") as file:
        quotations, definitions = of_webster(file.read())
    examples, glosses = of_wordnet(arguments.wordnet)
    sets = (quotations, examples, definitions, glosses)
    for (name, count), found in zip(COUNTS.items(), sets, strict=True):
        sentences = sorted(found)
        random.Random(arguments.seed).shuffle(sentences)
        (arguments.out / f"{name}.txt").write_text("\n".join(sentences[:count]) + "\n")
        print(f"{name}: {count} of {len(sentences)}")


if __name__ == "__main__":
    main()
