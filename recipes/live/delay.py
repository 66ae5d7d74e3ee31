"""Measure the delay from mouth to ear, over UDP on the loopback, for a minute or for hours.

Samples go into `vqasr encode` at the pace of speech and come out of `vqasr decode`:
encode | send -> UDP -> receive | decode. A sample's delay is the time between its own end of
recording and its arrival.

python recipes/live/delay.py --data ../shared/speech/dev-00000-of-00001.parquet --seconds 60
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil

from vqasr.audio.arrays import to_pcm
from vqasr.data.speech import load_speech, row_audio
from vqasr.grid import SAMPLING_RATE_HZ

PIECE_S = 0.01  # of a sound card
SILENCE_S = 2.0  # before the speech
WAV_HEADER_BYTES = 44
REPORT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", required=True, help="data set of speech, spoken again and again")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--vocoder", default="vqasr-base-vocoder", help="name or folder")
    parser.add_argument("--chunk-s", type=float, default=0.04, help="of speech in a packet")
    parser.add_argument("--bps", type=float, default=None, help="default: 4 codebooks")
    parser.add_argument("--pitch", action="store_true", help="send the pitch too")
    parser.add_argument("--port", type=int, default=5004)
    parser.add_argument("--out", type=Path, default=Path("runs/delay.jsonl"))
    arguments = parser.parse_args()
    speech = spoken(arguments.data, min(arguments.seconds, 600.0))
    address = f"127.0.0.1:{arguments.port}"
    rate = ["-n", "4"] if arguments.bps is None else ["--bps", str(arguments.bps)]
    rate += ["--pitch"] if arguments.pitch else []
    receive = start("receive", address, "-o", "-", "--timeout-s", "60")
    decode = start("decode", "-", "-o", "-", "--vocoder", arguments.vocoder, stdin=receive)
    encode = start(
        "encode", "-", "-o", "-", "--pcm-hz", "16000", *rate, "--chunk-s", str(arguments.chunk_s),
        stdin=None,
    )  # fmt: skip
    send = start("send", "-", address, stdin=encode)
    heard = Ear(decode.stdout)
    # Speech begins when silence has come through all four, with their models loaded.
    encode.stdin.write(to_pcm(np.zeros(round(SILENCE_S * SAMPLING_RATE_HZ), np.float32)))
    encode.stdin.flush()
    while heard.samples < SAMPLING_RATE_HZ:
        time.sleep(0.01)
    time.sleep(1.0)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    processes = {"encode": encode, "send": send, "receive": receive, "decode": decode}
    begun_s = time.monotonic()
    with arguments.out.open("w") as log:
        reported = 0
        for piece in range(round(arguments.seconds / PIECE_S)):
            at = piece * round(PIECE_S * SAMPLING_RATE_HZ)
            samples = np.take(speech, np.arange(at, at + 160), mode="wrap")
            # A sound card hands over a piece when it has been spoken.
            time.sleep(max(0.0, begun_s + (piece + 1) * PIECE_S - time.monotonic()))
            encode.stdin.write(to_pcm(samples))
            encode.stdin.flush()
            elapsed_s = (piece + 1) * PIECE_S
            if elapsed_s - reported * REPORT_S >= REPORT_S or elapsed_s >= arguments.seconds:
                reported += 1
                report(log, heard, begun_s, elapsed_s, processes)
        encode.stdin.close()
        for process in processes.values():
            process.wait(timeout=90)
        heard.thread.join(timeout=90)
        total = {
            "sent_samples": (piece + 1) * 160 + round(SILENCE_S * SAMPLING_RATE_HZ),
            "heard_samples": heard.samples,
            "exit_codes": {name: process.returncode for name, process in processes.items()},
            **heard.delays_ms(begun_s, 0.0),
        }
        log.write(json.dumps(total) + "\n")
        print(json.dumps(total))


class Ear:
    """Note when samples arrive."""

    def __init__(self, file: BinaryIO):
        self.samples, self.arrivals = 0, [(0, 0.0)]
        self._file = file
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        self._file.read(WAV_HEADER_BYTES)
        rest = 0
        while data := os.read(self._file.fileno(), 1 << 16):
            rest += len(data)
            self.samples = rest // 2
            self.arrivals.append((self.samples, time.monotonic()))

    def delays_ms(self, begun_s: float, after_s: float) -> dict[str, float]:
        """Return quantiles of the delay of the samples that were recorded after a moment."""
        waited = []
        for (first, _), (last, arrived_s) in zip(self.arrivals, self.arrivals[1:], strict=False):
            # The first sample of a piece waits longest.
            spoken_s = first / SAMPLING_RATE_HZ - SILENCE_S
            if last > first and spoken_s >= max(after_s, 0.0):
                waited.append(1000 * (arrived_s - begun_s - spoken_s))
        if not waited:
            return {}
        quantiles = np.quantile(waited, [0.5, 0.95, 1.0])
        return dict(zip(("median_ms", "p95_ms", "longest_ms"), quantiles.round(1), strict=True))


def report(log: BinaryIO, heard: Ear, begun_s: float, elapsed_s: float, processes: dict) -> None:
    """Log the delay of the last minute and the memory of the processes."""
    memory = {
        name: round(psutil.Process(process.pid).memory_full_info().uss / 2**20, 1)
        for name, process in processes.items()
        if process.poll() is None
    }
    delays = heard.delays_ms(begun_s, elapsed_s - REPORT_S)
    line = json.dumps({"elapsed_s": round(elapsed_s, 2), **delays, "mib": memory})
    log.write(line + "\n")
    log.flush()
    print(line, flush=True)


def spoken(source: str, seconds: float) -> np.ndarray:
    """Join recordings to speech of this length."""
    clips, length = [], 0
    for row in load_speech([source]):
        clips.append(row_audio(row))
        length += len(clips[-1])
        if length >= seconds * SAMPLING_RATE_HZ:
            break
    return np.concatenate(clips)


def start(*arguments: str, stdin: subprocess.Popen | None = None) -> subprocess.Popen:
    """Start a command of vqasr with one thread; its input is another's output, or a pipe."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vqasr", *arguments], stdout=subprocess.PIPE,
        stdin=subprocess.PIPE if stdin is None else stdin.stdout, env=environment,
    )  # fmt: skip
    if stdin is not None:
        stdin.stdout.close()  # ours; the command has its own
    return process


if __name__ == "__main__":
    main()
