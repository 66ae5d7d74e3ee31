"""Speak sentences with synthetic voices, as more training data for CTC.

python recipes/recognition/synthetic_speech.py runs/sentences/*.txt --out runs/synthetic.parquet

Needs the programs flite and espeak-ng (apt-get install flite espeak-ng). Each text file has one
sentence in a line. The result has the columns audio, text, speaker and seconds.
"""

import argparse
import io
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from rich.progress import track

from vqasr.audio.resampling import resample
from vqasr.grid import SAMPLING_RATE_HZ

# Voices of flite with their mean pitch in Hz, and how often each speaks. The last share is that
# of espeak-ng, which has formants instead of a recorded speaker.
FLITE = {"slt": (180, 0.3), "rms": (100, 0.27), "awb": (130, 0.23), "kal16": (105, 0.08)}
ESPEAK_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")
ESPEAK_VARIANTS = ("m1", "m2", "m3", "m5", "m7", "f1", "f2", "f3", "f4")
SHORTEST_S = 1.1  # libsndfile cannot read Ogg Opus of less than a second
LONGEST_WORDS = 36  # of an utterance, which has one to three sentences
PEAK = 0.5


def utterances(files: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Yield all sentences in a random order, one to three joined."""
    lines = [line.strip() for name in files for line in Path(name).read_text().splitlines()]
    sentences = [line for line in lines if line]
    rng.shuffle(sentences)
    joined: list[str] = []
    wanted = 1
    for sentence in sentences:
        words = sum(len(s.split()) for s in (*joined, sentence))
        if joined and (len(joined) == wanted or words > LONGEST_WORDS):
            yield " ".join(joined)
            joined, wanted = [], int(rng.integers(1, 4))
        joined.append(sentence if sentence[-1] in ".!?;:," else sentence + ".")
    yield " ".join(joined)


def speak(text: str, seed: int, folder: Path) -> tuple[str, np.ndarray]:
    """Return the voice and (samples,) float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    path, source = folder / f"{seed}.wav", folder / f"{seed}.txt"
    source.write_text(text)
    shares = [share for _, share in FLITE.values()]
    choice = int(rng.choice(len(FLITE) + 1, p=[*shares, 1.0 - sum(shares)]))
    if choice < len(FLITE):
        voice = list(FLITE)[choice]
        pitch_hz = FLITE[voice][0] * float(np.exp(rng.normal(0.0, 0.12)))
        stretch = float(rng.uniform(0.85, 1.2))
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
        command += ["--setf", f"int_f0_target_mean={pitch_hz:.1f}", "-f", source, "-o", path]
    else:
        voice = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
        rate, pitch = int(rng.integers(125, 185)), int(rng.integers(25, 70))
        command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch)]
        command += ["-f", source, "-w", path]
    subprocess.run(command, check=True, capture_output=True)
    samples, rate_hz = sf.read(path, dtype="float32")
    path.unlink()
    source.unlink()
    samples = resample(samples, rate_hz, SAMPLING_RATE_HZ)
    return voice, samples * (PEAK / max(1e-3, float(np.abs(samples).max())))


def as_opus(samples: np.ndarray, bps: int) -> bytes:
    """Encode (samples,) float32 at 16 kHz as a whole Ogg Opus file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLING_RATE_HZ, layout="mono")
        stream.bit_rate = bps
        pcm = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLING_RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("texts", nargs="+", help="files with one sentence in a line")
    parser.add_argument("--out", required=True, help="parquet file")
    parser.add_argument("--hours", type=float, default=20.0, help="of speech, at most")
    parser.add_argument("--bps", type=int, default=12_000, help="of Opus")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts = list(utterances(arguments.texts, np.random.default_rng(arguments.seed)))
    rows: list[dict] = []
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.threads) as pool:

        def row(item: tuple[int, str]) -> dict:
            number, text = item
            voice, samples = speak(text, arguments.seed * 10**6 + number, Path(folder))
            return {
                "id": f"synthetic-{number}",
                "audio": {"bytes": as_opus(samples, arguments.bps), "path": None},
                "text": text, "speaker": voice, "seconds": len(samples) / SAMPLING_RATE_HZ,
                "source": "synthetic",
            }  # fmt: skip

        for start in track(range(0, len(texts), 256), "speaking"):
            spoken = pool.map(row, enumerate(texts[start : start + 256], start))
            rows += [r for r in spoken if r["seconds"] >= SHORTEST_S]
            seconds = sum(r["seconds"] for r in rows)
            if seconds > 3600 * arguments.hours:
                break
    pq.write_table(pa.Table.from_pylist(rows), arguments.out)
    voices = len({row["speaker"] for row in rows})
    print(f"{len(rows)} utterances, {seconds / 3600:.2f} h, {voices} voices")


if __name__ == "__main__":
    main()
