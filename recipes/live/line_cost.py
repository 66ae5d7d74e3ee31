"""Measure the bits of a stream on the line, by the length of its chunks.

python recipes/live/line_cost.py --data ../shared/speech/test_libri_other-00000-of-00001.parquet

Each chunk is a datagram; headers of IP and UDP and the stream's repeated header count.
"""

import vqasr.codec  # noqa: F401 (before datasets, which imports torchaudio)

# isort: split
import argparse
import io

import numpy as np
from rich.progress import track

from vqasr import StreamReader, load_codec
from vqasr.compression.compress import compress, stream_of
from vqasr.data.speech import load_speech, row_audio
from vqasr.grid import FRAME_S, SAMPLING_RATE_HZ
from vqasr.stream.packets import IP_AND_UDP_BYTES, datagrams

CHUNK_FRAMES = (1, 2, 5, 10, 15, 25, 250)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", required=True, help="recordings, as for vqasr evaluate")
    parser.add_argument("--limit", type=int, default=40, help="number of recordings")
    parser.add_argument("--bps", type=float, nargs="+", default=[290.0, 420.0])
    parser.add_argument("--num-quantizers", type=int, nargs="+", default=[4])
    parser.add_argument("--copies", type=int, default=0, help="of each chunk, as of vqasr send")
    arguments = parser.parse_args()
    codec = load_codec("vqasr-base")
    rows = load_speech([arguments.data])
    rows = rows.select(range(min(arguments.limit, len(rows))))
    rates = [{"bps": bps} for bps in arguments.bps]
    rates += [{"num_quantizers": n} for n in arguments.num_quantizers]
    shape = (len(rates), len(CHUNK_FRAMES), 2)
    size, seconds = np.zeros(shape), 0.0
    for row in track(rows, "encoding"):
        samples = row_audio(row)
        seconds += len(samples) / SAMPLING_RATE_HZ
        for i, rate in enumerate(rates):
            codes = compress(samples, codec=codec, **rate).codes
            for j, frames in enumerate(CHUNK_FRAMES):
                stream = stream_of(codec, codes, len(samples), chunk_frames=frames)
                size[i, j] += sizes(stream.to_bytes(), arguments.copies)
    bps = 8 * size / seconds
    print(f"{len(rows)} recordings, {seconds:.0f} s; bit/s of the stream, and on the line with UDP")
    print("chunk " + " ".join(f"{label(rate):>15}" for rate in rates))
    for j, frames in enumerate(CHUNK_FRAMES):
        cells = (f"{own:6.0f} {line:8.0f}" for own, line in bps[:, j])
        print(f"{frames * FRAME_S:4.2f} s " + " ".join(cells))


def sizes(data: bytes, copies: int) -> tuple[int, int]:
    """Return the bytes of a stream, and of its datagrams."""
    reader = StreamReader(io.BytesIO(data))
    if reader.header.single:
        return len(data), len(data) + IP_AND_UDP_BYTES
    sent = [len(d) + IP_AND_UDP_BYTES for _, group in datagrams(reader, copies) for d in group]
    return len(data), sum(sent)


def label(rate: dict[str, float]) -> str:
    return "--" + " ".join(f"{name} {value:g}" for name, value in rate.items()).replace("_", "-")


if __name__ == "__main__":
    main()
