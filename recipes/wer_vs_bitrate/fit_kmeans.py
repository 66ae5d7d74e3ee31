"""Fit the baseline without training: k-means centres of Whisper's encoder states.

python recipes/wer_vs_bitrate/fit_kmeans.py ../shared/speech/train-00000-of-00002.parquet \\
    --size 1000 --out runs/kmeans1000.safetensors
vqasr evaluate --systems pcm,kmeans:runs/kmeans1000.safetensors,vqasr:4 --data ... --out ...
"""

import argparse

from rich.progress import track

from vqasr.adapters.original_whisper import load_whisper
from vqasr.data.speech import load_speech, row_audio
from vqasr.evaluation.kmeans import FITTED_STATES, STATE_SAMPLES, KMeansTokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="parquet file, folder of them, or hub id")
    parser.add_argument("--split", default="train", help="of hub data sets")
    parser.add_argument("--size", type=int, default=1000, help="number of centres")
    parser.add_argument("--asr", default="tiny.en", help="a Whisper")
    parser.add_argument("--seed", type=int, default=0, help="of the draws of rows and centres")
    parser.add_argument("--out", required=True, help="safetensors file")
    arguments = parser.parse_args()
    data = load_speech(arguments.data, arguments.split).shuffle(arguments.seed)
    enough, clips = 2 * FITTED_STATES * arguments.size * STATE_SAMPLES, []
    for row in track(data, "reading"):
        clips.append(row_audio(row))
        if sum(map(len, clips)) >= enough:
            break
    recogniser = load_whisper(arguments.asr)
    KMeansTokens.fit(recogniser, clips, arguments.size, arguments.seed).save(arguments.out)
    print(f"{arguments.size} centres in {arguments.out}")


if __name__ == "__main__":
    main()
