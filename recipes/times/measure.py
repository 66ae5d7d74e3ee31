"""How far times of words and segments from codes lie from stock Whisper's, on the same audio.

python recipes/times/measure.py ../shared/speech/dev-00000-of-00001.parquet --limit 100

Both go through transformers' pipeline. Words that both heard are compared, and segments that begin
(or end) with the same word in both.
"""

import vqasr  # noqa: F401 (first: it mends torchaudio where that is broken)

# isort: split
import argparse
import difflib
import json
import re

import numpy as np
import torch
from rich.progress import track
from transformers import pipeline

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.pipeline import CodesPipeline
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.data.speech import load_speech, row_audio

TASK = "automatic-speech-recognition"
Chunk = dict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="parquet with audio")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--num-quantizers", type=int, default=4)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--codec", default="vqasr-base")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = load_speech(arguments.data)
    data = data.select(range(min(arguments.limit, len(data))))
    reader = WhisperRecogniser.from_pretrained("tiny.en", arguments.adapter)
    whisper = reader.recogniser
    stock = pipeline(
        TASK, model=whisper.model, tokenizer=whisper.tokenizer,
        feature_extractor=whisper.feature_extractor,
    )  # fmt: skip
    codes = pipeline(
        TASK, model=reader.model, tokenizer=whisper.tokenizer, pipeline_class=CodesPipeline,
        feature_extractor=CodesFeatureExtractor(arguments.codec, arguments.num_quantizers),
    )  # fmt: skip
    greedy = {"num_beams": 1, "do_sample": False}
    found: dict[str, list[float]] = {"words": [], "segments": []}
    for row in track(data, "both"):
        sound = {"raw": row_audio(row), "sampling_rate": 16_000}
        for kind, times in (("words", "word"), ("segments", True)):
            settings = {"return_timestamps": times, "generate_kwargs": greedy}
            theirs, ours = (p(dict(sound), **settings)["chunks"] for p in (stock, codes))
            found[kind] += differences(theirs, ours)
    for kind, values in found.items():
        apart = np.array(values)
        print(
            json.dumps(
                {
                    "of": kind,
                    "compared": len(apart),
                    "within_0.2_s": round(float((apart <= 0.2 + 1e-6).mean()), 4),
                    "median_s": round(float(np.median(apart)), 3),
                    "p95_s": round(float(np.quantile(apart, 0.95)), 3),
                }
            )
        )


def differences(theirs: list[Chunk], ours: list[Chunk]) -> list[float]:
    """Seconds between the two starts, and between the two ends, of what both heard."""
    apart = []
    for edge, word in ((0, 0), (1, -1)):
        at = [[(words(c)[word], c["timestamp"][edge]) for c in side if words(c)]
              for side in (theirs, ours)]  # fmt: skip
        names = [[name for name, _ in side] for side in at]
        matcher = difflib.SequenceMatcher(None, *names, autojunk=False)
        for block in matcher.get_matching_blocks():
            for i in range(block.size):
                one, two = at[0][block.a + i][1], at[1][block.b + i][1]
                if one is not None and two is not None:  # Whisper does not end every segment
                    apart.append(abs(one - two))
    return apart


def words(chunk: Chunk) -> list[str]:
    return re.findall(r"[a-z0-9']+", chunk["text"].lower())


if __name__ == "__main__":
    main()
