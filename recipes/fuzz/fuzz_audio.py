"""Read audio files of every format, depth, channel count and rate with every defect.

python recipes/fuzz/fuzz_audio.py --cases 4000 --seed 0
"""

import argparse
import io
import json
import time
import tracemalloc
import warnings
from collections import Counter

import numpy as np
import soundfile

from vqasr.audio.files import read_audio
from vqasr.errors import AudioError, AudioWarning

FORMATS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "WAVEX": ("PCM_16", "PCM_24"),
    "RF64": ("PCM_16",),
    "W64": ("PCM_16", "FLOAT"),
    "AIFF": ("PCM_S8", "PCM_16", "PCM_24", "FLOAT"),
    "AU": ("PCM_16", "FLOAT", "ULAW"),
    "CAF": ("PCM_16", "PCM_24", "FLOAT"),
    "FLAC": ("PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000, 96_000)
OWN_RATES_HZ = {"MP3": (8_000, 16_000, 44_100, 48_000), "OPUS": (8_000, 16_000, 48_000)}
DEFECTS = (
    "none", "cut", "joined", "garbage behind", "zeros behind", "bit flips", "header bytes",
    "opposite phase",
)  # fmt: skip
SLOWEST_S, MOST_BYTES = 10.0, 1 << 29
# A loss below this is a part of a frame or page of the format.
LEAST_LOSS_S = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    slowest_s = 0.0
    for number in range(arguments.cases):
        rng = np.random.default_rng([arguments.seed, number])
        case, data, seconds = make_case(rng)
        result, taken_s = judge(data, seconds, str(case["defect"]))
        slowest_s = max(slowest_s, taken_s)
        counts[result.split(":")[0]] += 1
        if result.split(":")[0] in ("crash", "hang", "silent loss", "memory"):
            print(json.dumps({"case": number, **case, "result": result}), flush=True)
    print(json.dumps({"cases": arguments.cases, "slowest_s": round(slowest_s, 2), **counts}))


def make_case(rng: np.random.Generator) -> tuple[dict[str, object], bytes, float]:
    """Draw a case: its description, the file, and the seconds of audio in it."""
    form = str(rng.choice(list(FORMATS)))
    subtype = str(rng.choice(FORMATS[form]))
    rate_hz = int(rng.choice(OWN_RATES_HZ.get(form) or OWN_RATES_HZ.get(subtype) or RATES_HZ))
    defect = str(rng.choice(DEFECTS))
    channels = 2 if defect == "opposite phase" else int(rng.integers(1, 3 if form == "MP3" else 7))
    data, seconds = encode(rng, form, subtype, rate_hz, channels, defect == "opposite phase")
    if defect == "cut":
        share = rng.uniform(0.2, 0.98)
        data, seconds = data[: int(share * len(data))], share * seconds
    elif defect == "joined":
        other, more_s = encode(rng, form, subtype, rate_hz, channels, False)
        data, seconds = data + other, seconds + more_s
    elif defect == "garbage behind":
        data += rng.bytes(int(rng.integers(1, 5000)))
    elif defect == "zeros behind":
        data += bytes(int(rng.integers(1, 5000)))
    elif defect in ("bit flips", "header bytes"):
        damaged = bytearray(data)
        last = len(data) if defect == "bit flips" else min(128, len(data))
        for place in rng.integers(0, last, int(rng.integers(1, 8))):
            damaged[place] ^= 1 << int(rng.integers(8))
        data = bytes(damaged)
    case = {
        "format": form, "subtype": subtype, "rate_hz": rate_hz, "channels": channels,
        "defect": defect,
    }  # fmt: skip
    return case, data, seconds


def encode(
    rng: np.random.Generator, form: str, subtype: str, rate_hz: int, channels: int, opposite: bool
) -> tuple[bytes, float]:
    """Encode a few seconds of a modulated tone."""
    seconds = float(rng.uniform(3.0, 6.0))
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.2 * np.sin(2 * np.pi * 300 * time_s) * (1 + np.sin(2 * np.pi * 3 * time_s))
    wave = tone[:, None] + 0.01 * rng.standard_normal((len(time_s), channels))
    if opposite:
        wave = np.stack([tone, -tone], axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=form, subtype=subtype)
    return buffer.getvalue(), seconds


def judge(data: bytes, seconds: float, defect: str) -> tuple[str, float]:
    """Read a file; return what happened, and the seconds that it took."""
    started = time.perf_counter()
    tracemalloc.start()
    result = "read"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            samples = read_audio(data)
        except AudioError:
            result = "refused"
        except Exception as error:
            result = f"crash: {type(error).__name__}: {error}"
    taken_s = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reported = any(issubclass(w.category, AudioWarning) for w in caught)
    if result == "read":
        lost_s = seconds - len(samples) / 16_000
        # A damaged header may hold another rate or length, which nobody can know.
        if lost_s > LEAST_LOSS_S and not reported and defect not in ("header bytes", "bit flips"):
            result = f"silent loss: {lost_s:.2f} s"
        elif reported:
            result = "read and reported"
        elif defect == "cut" and lost_s < -LEAST_LOSS_S:
            result = "crash: more than there was"
    if taken_s > SLOWEST_S:
        result = f"hang: {taken_s:.1f} s"
    if peak > MOST_BYTES:
        result = f"memory: {peak / 1e6:.0f} MB"
    return result, taken_s


if __name__ == "__main__":
    main()
