"""Compare timestamps of words and segments from codes with original Whisper's on the same audio.

python recipes/times/measure.py ../shared/speech/dev-00000-of-00001.parquet --limit 100

Both use transformers' pipeline. Words in both transcripts are compared, and segments that begin (or
end) with the same word in both.
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import difflib
import json
import re
from typing import Any, Final

import numpy as np
import torch
from rich.progress import track
from transformers import pipeline

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.pipeline import CodesPipeline
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.data.speech import load_speech, row_audio

TASK: Final = "automatic-speech-recognition"
Chunk = dict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="parquet with audio")
    parser.add_argument("--limit", type=int, default=100, help="number of utterances")
    parser.add_argument("--num-quantizers", type=int, default=4, help="codebooks to use")
    parser.add_argument("--adapter", default=None, help="default: the one that ships for tiny.en")
    parser.add_argument("--codec", default="vqasr-base", help="name, folder or hub id")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = load_speech(arguments.data)
    data = data.select(range(min(arguments.limit, len(data))))
    recogniser = WhisperRecogniser.from_pretrained("tiny.en", arguments.adapter)
    whisper = recogniser.whisper
    original: Any = pipeline(
        TASK, model=whisper.model, tokenizer=whisper.tokenizer,
        feature_extractor=whisper.feature_extractor,
    )  # fmt: skip
    codes: Any = pipeline(
        TASK, model=recogniser.model, tokenizer=whisper.tokenizer, pipeline_class=CodesPipeline,
        feature_extractor=CodesFeatureExtractor(arguments.codec, arguments.num_quantizers),
    )  # fmt: skip
    greedy = {"num_beams": 1, "do_sample": False}
    errors: dict[str, list[float]] = {"words": [], "segments": []}
    for row in track(data, "both"):
        audio = {"raw": row_audio(row), "sampling_rate": 16_000}
        for kind, times in (("words", "word"), ("segments", True)):
            settings = {"return_timestamps": times, "generate_kwargs": greedy}
            theirs, ours = (p(dict(audio), **settings)["chunks"] for p in (original, codes))
            errors[kind] += differences(theirs, ours)
    for kind, values in errors.items():
        seconds = np.array(values)
        result = {
            "of": kind,
            "compared": len(seconds),
            "within_0.2_s": round(float((seconds <= 0.2 + 1e-6).mean()), 4),
            "median_s": round(float(np.median(seconds)), 3),
            "p95_s": round(float(np.quantile(seconds, 0.95)), 3),
        }
        print(json.dumps(result))


def differences(theirs: list[Chunk], ours: list[Chunk]) -> list[float]:
    """Return seconds between the starts, and between the ends, of the words in both."""
    seconds = []
    for edge, word in ((0, 0), (1, -1)):
        marks = [[(words(c)[word], c["timestamp"][edge]) for c in side if words(c)]
                 for side in (theirs, ours)]  # fmt: skip
        names = [[name for name, _ in side] for side in marks]
        matcher = difflib.SequenceMatcher(None, names[0], names[1], autojunk=False)
        for block in matcher.get_matching_blocks():
            for i in range(block.size):
                one, two = marks[0][block.a + i][1], marks[1][block.b + i][1]
                if one is not None and two is not None:  # Whisper does not end every segment
                    seconds.append(abs(one - two))
    return seconds


def words(chunk: Chunk) -> list[str]:
    return re.findall(r"[a-z0-9']+", chunk["text"].lower())


if __name__ == "__main__":
    main()
