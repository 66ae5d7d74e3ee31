"""Compare text that is written while codes come in with the text of whole recordings.

python recipes/live/captions.py --data ../shared/speech/test_libri_other-00000-of-00001.parquet

Utterances are joined to talks. How long words wait until they are written is estimated: words are
taken as evenly spoken, and decoding as instantaneous.
"""

import vqasr.codec  # noqa: F401 (before datasets, which imports torchaudio)

# isort: split
import argparse
import time

import numpy as np
from rich.progress import track

from vqasr import compress, load_codec
from vqasr.adapters import load_recogniser
from vqasr.adapters.agreement import AgreementStream
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.error_rates import word_errors
from vqasr.grid import FRAME_S, SAMPLING_RATE_HZ

PUSHED_FRAMES = 5  # 0.2 s at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", required=True, help="recordings with the column text")
    parser.add_argument("--asr", default="tiny.en", help="as for vqasr transcribe")
    parser.add_argument("--num-quantizers", type=int, default=4)
    parser.add_argument("--update-s", type=float, nargs="+", default=[1.0])
    parser.add_argument("--talks", type=int, default=5)
    parser.add_argument("--talk-s", type=float, default=60.0, help="least length of a talk")
    arguments = parser.parse_args()
    codec, recogniser = load_codec("vqasr-base"), load_recogniser(arguments.asr)
    talks, texts = join(load_speech([arguments.data]), arguments.talk_s, arguments.talks)
    streams = [compress(t, codec=codec, num_quantizers=arguments.num_quantizers) for t in talks]
    seconds = sum(map(len, talks)) / SAMPLING_RATE_HZ
    started = time.perf_counter()
    whole = [recogniser.transcribe_codes([stream.codes])[0] for stream in streams]
    report("whole talks", texts, whole, (time.perf_counter() - started) / seconds)
    for update_s in arguments.update_s:
        started, live, ages = time.perf_counter(), [], []
        for stream in track(streams, f"every {update_s:g} s"):
            text, waited = read(AgreementStream(recogniser, update_s=update_s), stream.codes)
            live.append(text)
            ages += waited
        report(f"every {update_s:g} s", texts, live, (time.perf_counter() - started) / seconds)
        print(f"  words wait {np.mean(ages):.1f} s on average, 90 % {np.quantile(ages, 0.9):.1f}")


def join(rows: list, least_s: float, count: int) -> tuple[list[np.ndarray], list[str]]:
    """Join consecutive utterances to talks of at least `least_s` seconds, and their texts."""
    talks, texts, parts, words = [], [], [], []
    for row in rows:
        parts.append(row_audio(row))
        words.append(row["text"])
        if sum(map(len, parts)) >= least_s * SAMPLING_RATE_HZ:
            talks.append(np.concatenate(parts))
            texts.append(" ".join(words))
            parts, words = [], []
        if len(talks) == count:
            break
    return talks, texts


def read(stream: AgreementStream, codes: np.ndarray) -> tuple[str, list[float]]:
    """Push codes as they come in; return the text, and how long each word waited."""
    written_s: list[float] = []
    for start in range(0, codes.shape[1], PUSHED_FRAMES):
        now_s = min(codes.shape[1], start + PUSHED_FRAMES) * FRAME_S
        new = stream.push(codes[:, start : start + PUSHED_FRAMES])
        written_s += [now_s] * len(new.split())
    end_s = codes.shape[1] * FRAME_S
    written_s += [end_s] * len(stream.finish().split())
    spoken_s = np.linspace(0, end_s, len(written_s) + 1)[1:]
    return stream.text, (np.array(written_s) - spoken_s).tolist()


def report(name: str, references: list[str], hypotheses: list[str], rtf: float) -> None:
    errors, words = word_errors(references, hypotheses)
    print(f"{name}: WER {100 * errors / words:.1f} % of {words} words, {rtf:.2f} of real time")


if __name__ == "__main__":
    main()
