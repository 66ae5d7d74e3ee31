"""Time encoding beside neural codecs of transformers, as a fraction of real time.

python recipes/speed/encoders.py --threads 1

The other codecs have random weights, on which their speed does not depend. All take turns on the
same 10 s of audio; the median of the rounds counts.
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.progress import track
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

from vqasr import VQCodecModel
from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio

SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each codec")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clip = torch.from_numpy(read_audio(CLIPS / "long01_af_heart.ogg"))[: SECONDS * 16_000]
    at_24_khz = torch.nn.functional.interpolate(clip[None, None], SECONDS * 24_000)
    ours = VQCodecModel.from_pretrained("vqasr-base").eval()
    encodec, mimi = EncodecModel(EncodecConfig()).eval(), MimiModel(MimiConfig()).eval()
    dac = DacModel(DacConfig()).eval()
    encoders: dict[str, Callable[[], object]] = {
        "vqasr-base, 4 codebooks": lambda: ours.encode(clip[None], num_quantizers=4),
        "EnCodec 24 kHz, 1.5 kbit/s": lambda: encodec.encode(at_24_khz, bandwidth=1.5),
        "Mimi, 8 codebooks": lambda: mimi.encode(at_24_khz, num_quantizers=8),
        "DAC 16 kHz, 2 codebooks": lambda: dac.encode(clip[None, None], n_quantizers=2),
    }
    times: dict[str, list[float]] = {name: [] for name in encoders}
    with torch.inference_mode():
        for encode in encoders.values():
            encode()  # warm up; not timed
        for _ in track(range(arguments.rounds), "rounds"):
            for name, encode in encoders.items():
                started = time.perf_counter()
                encode()
                times[name].append((time.perf_counter() - started) / SECONDS)
    baseline = statistics.median(times["vqasr-base, 4 codebooks"])
    print("| codec | of real time | times vqasr's |\n|---|---|---|")
    for name, fractions in times.items():
        median = statistics.median(fractions)
        print(f"| {name} | {median:.4f} | {median / baseline:.1f} |")


if __name__ == "__main__":
    main()
