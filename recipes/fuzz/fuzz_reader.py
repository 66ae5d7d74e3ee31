"""Feed the stream reader with mutated streams, guided by coverage (atheris), until it breaks.

For any bytes, the reader must raise nothing but StreamError, must not hang, and must return only
codes that were written. README.md has the command.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vqasr"]):
    from vqasr.errors import StreamError
    from vqasr.grid import MISSING
    from vqasr.stream.chunk import Chunk, EndField, checksum_seed, single_to_bytes
    from vqasr.stream.header import CHUNK_FRAMES, StreamHeader
    from vqasr.stream.stream import Stream

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))
import numpy as np
from prior_helpers import CODEC, PRIOR, likely_codes

SLOWEST_S = 5.0  # for one input of at most 4 KB
CODES = likely_codes(PRIOR, 3, 60)
counts = {"inputs": 0, "whole": 0, "partly": 0, "refused": 0, "slowest_s": 0.0}


def seeds() -> list[tuple[bytes, np.ndarray]]:
    """Return valid streams with their codes: packed and range-coded, short and long."""
    streams = []
    kinds = [(3, 60, 10, PRIOR), (1, 60, 25, PRIOR), (2, 60, 10, None), (3, 7, 250, PRIOR)]
    for i, (n, frames, chunk, prior) in enumerate([*kinds, (1, 0, 1, None)]):
        codes = CODES[:n, :frames]
        header = StreamHeader(CODEC[:3], n, 4, 640, chunk)
        stream = Stream(header, codes, 640 * frames - (frames > 0) * 9, prior=prior)
        streams.append((stream.to_bytes(stream_id=1000 + i), codes))
    for n, frames, prior in [(3, 60, PRIOR), (2, 40, None), (1, 0, None)]:  # single chunks
        codes = CODES[:n, :frames]
        header = StreamHeader(CODEC[:3], n, 4, 640, 750)
        stream = Stream(header, codes, 640 * frames - (frames > 0) * 9, prior=prior)
        streams.append((stream.to_bytes(), codes))
    return streams


SEEDS = seeds()
WRITTEN = dict(SEEDS)
BY_ID = {data[:14]: codes for data, codes in SEEDS}


def check(data: bytes) -> None:
    """Read an input as it is, or, if its first byte is even, as fields with right checksums."""
    if data and data[0] % 2 == 0 and data[:2] != b"VQ":
        read(with_right_checksums(data[1:]), None)
    else:
        read(data, BY_ID.get(data[:14]))


def with_right_checksums(data: bytes) -> bytes:
    """Make a stream from the fuzzer's header fields, chunk fields and payloads."""
    source = atheris.FuzzedDataProvider(data)
    prior = source.ConsumeBool()
    header = StreamHeader(
        fingerprint=CODEC[:3],
        num_quantizers=source.ConsumeIntInRange(1, 3 if prior else 16),
        bits_per_code=4 if prior else source.ConsumeIntInRange(1, 16),
        hop_length=160 * source.ConsumeIntInRange(1, 16),
        chunk_frames=CHUNK_FRAMES[source.ConsumeIntInRange(0, 15)],
        prior_fingerprint=PRIOR.fingerprint[:2] if prior else bytes(2),
        stream_id=7,
        pitch=source.ConsumeBool(),
    )
    coder = PRIOR if prior else None
    if source.ConsumeBool():
        short = replace(header, single=True)
        end = EndField(source.ConsumeIntInRange(0, 4095), source.ConsumeIntInRange(0, 4095))
        return single_to_bytes(short, source.ConsumeBytes(4096), end, coder)
    seed = checksum_seed(header, coder)
    stream = bytearray(header.to_bytes())
    number = 0
    while source.remaining_bytes():
        number += source.PickValueInList([1, 1, 1, 1, 0, 2, 4000]) if len(stream) > 14 else 0
        last = source.ConsumeBool()
        end = EndField(source.ConsumeIntInRange(0, 4095), source.ConsumeIntInRange(0, 4095))
        chunk = Chunk(
            number=number,
            payload=source.ConsumeBytes(source.ConsumeIntInRange(0, 64)),
            coded=source.ConsumeBool(),
            end=end if last else None,
            pitch=source.ConsumeBytes(source.ConsumeIntInRange(0, 64)) if header.pitch else None,
        )
        stream += chunk.to_bytes(header, seed)
    return bytes(stream)


def read(data: bytes, written: np.ndarray | None) -> None:
    """Read a stream, and compare it with the codes `written` under its header, if known."""
    started = time.perf_counter()
    try:
        stream = Stream.load(data, prior=PRIOR)
        outcome = "whole"
    except StreamError as error:
        stream, outcome = error.stream, "partly" if error.stream is not None else "refused"
    took = time.perf_counter() - started
    counts["inputs"] += 1
    counts[outcome] += 1
    counts["slowest_s"] = max(counts["slowest_s"], took)
    assert took < SLOWEST_S, f"{took:.1f} s for {len(data)} bytes"
    if stream is not None:
        assert (stream.codes >= MISSING).all()
        assert (stream.codes < 1 << 16).all()
    if written is not None and stream is not None:
        frames = min(stream.frames, written.shape[1])
        kept = stream.codes[:, :frames]
        right = (kept == written[:, :frames]).all(axis=0) | (kept[0] == MISSING)
        assert right.all(), "the reader returned codes that were not written"
        assert outcome != "whole" or data in WRITTEN, "damage was not noticed"
    if counts["inputs"] % 20_000 == 0:
        print(counts, flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for i, (data, _) in enumerate(SEEDS):
            (Path(folder) / f"{i}.vqs").write_bytes(data)
        (Path(folder) / "fields").write_bytes(bytes(range(0, 256, 2)) * 3)
        spliced = SEEDS[0][0][:60] + SEEDS[1][0][30:]
        (Path(folder) / "spliced.vqs").write_bytes(spliced)
        # use_cmp=0: libFuzzer would copy right checksums from comparisons and so forge chunks;
        # with_right_checksums covers chunks with right checksums.
        options = ["-max_len=4096", "-use_cmp=0"]
        atheris.Setup([*sys.argv, *options, folder], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
