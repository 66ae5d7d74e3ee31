"""What the tests of the .vqs stream share: an example, a strategy, and bytes built by hand."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from vqasr.errors import StreamError
from vqasr.stream import StreamHeader

FINGERPRINT = bytes.fromhex("0123456789ab")
HEADER = StreamHeader(FINGERPRINT, num_quantizers=2, bits_per_code=10, hop_length=640)
CODES = np.array([[1, 2, 3], [1023, 512, 0]])
SAMPLES = 1900
FIELDS: dict[str, Any] = {
    "fingerprint": FINGERPRINT,
    "bits_per_code": 10,
    "hop_length": 640,
    "samples": SAMPLES,
    "chunk_frames": 2,
}
# stream_to_bytes(CODES, **FIELDS): the header, two data chunks, the end chunk.
EXAMPLE = bytes.fromhex(
    "565153010123456789ab020a8002"
    "02000000007ff00a00a1cb69d1"
    "0100010000c00005485e16"
    "00006c070000b718d6a1"
)
CHUNK_ENDS = (14, 27, 38)  # of the header and the two data chunks

# The machine that runs the tests may be slow or shared: time is not what these tests are about.
unhurried = settings(deadline=None)


@st.composite
def streams(draw: st.DrawFn, max_frames: int = 40) -> dict[str, Any]:
    """Arguments of stream_to_bytes, codes included."""
    num_quantizers = draw(st.one_of(st.integers(1, 9), st.just(255)))
    bits_per_code = draw(st.integers(1, 16))
    frames = draw(st.integers(0, max_frames))
    hop_length = draw(st.one_of(st.integers(1, 1000), st.just(65535)))
    seed = draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 2**bits_per_code, (num_quantizers, frames))
    return {
        "codes": codes,
        "samples": frames * hop_length - draw(st.integers(0, hop_length - 1)) if frames else 0,
        "fingerprint": draw(st.binary(min_size=6, max_size=6)),
        "bits_per_code": bits_per_code,
        "hop_length": hop_length,
        "chunk_frames": draw(st.one_of(st.integers(1, 12), st.sampled_from([250, 65535]))),
    }


def header_of(fields: dict[str, Any]) -> StreamHeader:
    return StreamHeader(
        fields["fingerprint"], len(fields["codes"]), fields["bits_per_code"], fields["hop_length"]
    )


def data_chunk(frames: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("<HH", frames, sequence) + payload


def end_chunk(samples: int) -> bytes:
    return struct.pack("<HI", 0, samples)


def assemble(*chunks: bytes, header: bytes = HEADER.to_bytes()) -> bytes:
    """A stream with right checksums around whatever the chunks say."""
    checked = (chunk + struct.pack("<I", zlib.crc32(header + chunk)) for chunk in chunks)
    return header + b"".join(checked)


def check_recovered(error: StreamError, frames: int) -> None:
    """``error`` holds, and its message counts, the first frames of the example."""
    assert error.stream is not None
    np.testing.assert_array_equal(error.stream.codes, CODES[:, :frames])
    assert error.stream.samples == frames * 640
    assert error.stream.header == HEADER
    assert f"{frames} frames ({frames * 640 / 16_000:.2f} s)" in str(error)


class PipeLike:
    """A binary file without seek, tell or name, that moves a few bytes at a time."""

    def __init__(self, step: int = 3) -> None:
        self.data = b""
        self.step = step
        self.flushes = 0

    def read(self, size: int) -> bytes:
        taken = min(size, self.step)
        piece, self.data = self.data[:taken], self.data[taken:]
        return piece

    def write(self, data: bytes) -> int:
        self.data += data[: self.step]
        return min(len(data), self.step)

    def flush(self) -> None:
        self.flushes += 1
