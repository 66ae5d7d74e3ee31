"""Measure recognition of codes as they come in: WER and time, by chunk and look-ahead.

python recipes/recognition/streaming.py --data ../shared/speech/test_libri_other-*.parquet
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import time

import torch
from rich.progress import track

from vqasr import compress, load_codec
from vqasr.adapters import CTCRecogniser, CTCStream
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.error_rates import word_errors

PUSHED_FRAMES = 5  # 0.2 s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", required=True, help="data with audio and text")
    parser.add_argument("--asr", default="ctc-small")
    parser.add_argument("--num-quantizers", type=int, default=4)
    parser.add_argument("--context-s", type=float, default=3.0)
    parser.add_argument(
        "--settings", nargs="+", default=["1:0.5", "2:0.5", "2:1", "4:1"],
        help="chunk_s:look_ahead_s",
    )  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec, recogniser = load_codec("vqasr-base"), CTCRecogniser.from_pretrained(arguments.asr)
    rows = load_speech(arguments.data)
    codes = [
        compress(row_audio(row), codec=codec, num_quantizers=arguments.num_quantizers).codes
        for row in track(rows, "encoding")
    ]
    seconds = sum(c.shape[1] for c in codes) / 25
    started = time.perf_counter()
    offline = [recogniser.transcribe_codes(c)[0] for c in track(codes, "offline")]
    report("offline", rows["text"], offline, time.perf_counter() - started, seconds)
    for setting in arguments.settings:
        chunk_s, look_ahead_s = map(float, setting.split(":"))
        texts, started = [], time.perf_counter()
        for clip in track(codes, setting):
            stream = CTCStream(
                recogniser, chunk_s=chunk_s, look_ahead_s=look_ahead_s,
                context_s=arguments.context_s,
            )  # fmt: skip
            for start in range(0, clip.shape[1], PUSHED_FRAMES):
                stream.push(clip[:, start : start + PUSHED_FRAMES])
            stream.finish()
            texts.append(stream.text)
        report(setting, rows["text"], texts, time.perf_counter() - started, seconds)


def report(
    name: str, references: list[str], texts: list[str], spent_s: float, audio_s: float
) -> None:
    """Print a row."""
    errors, words = word_errors(list(references), texts)
    print(f"| {name} | {100 * errors / words:.1f} | {spent_s / audio_s:.4f} |")


if __name__ == "__main__":
    main()
