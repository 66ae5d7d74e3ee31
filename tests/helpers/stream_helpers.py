"""What the tests of the .vqs stream share: an example, a strategy, and bytes built by hand."""

from __future__ import annotations

import binascii
import io
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from prior_helpers import CODEC, PRIOR

from vqasr.errors import StreamError
from vqasr.grid import MISSING
from vqasr.stream.header import CHUNK_FRAMES, StreamHeader, usual_chunk_frames
from vqasr.stream.stream import Stream

FINGERPRINT = CODEC
CODES = np.array([[1, 2, 3], [1023, 512, 0]])
SAMPLES = 1900
FIELDS: dict[str, Any] = {
    "fingerprint": FINGERPRINT,
    "bits_per_code": 10,
    "hop_length": 640,
    "samples": SAMPLES,
    "chunk_frames": 2,
    "stream_id": 0xBEEF,
}
HEADER = StreamHeader(FINGERPRINT[:3], 2, 10, 640, chunk_frames=2, stream_id=0xBEEF)
# stream_to_bytes(CODES, **FIELDS): the header, a full chunk, the last chunk.
EXAMPLE = bytes.fromhex(
    "56510101234500001931efbe9a63ef00000500007ff00a004a4a5b69ef0100034001400100c000c90fa580"
)
CHUNK_ENDS = (14, 28)  # of the header and the first chunk

# The machine that runs the tests may be slow or shared: time is not what these tests are about.
unhurried = settings(deadline=None)


@st.composite
def streams(draw: st.DrawFn, max_frames: int = 40) -> dict[str, Any]:
    """Arguments of stream_to_bytes, codes included; some with a small frozen prior."""
    with_prior = draw(st.booleans())
    bits_per_code = 4 if with_prior else draw(st.integers(1, 16))
    num_quantizers = draw(st.integers(1, 3 if with_prior else 16))
    frames = draw(st.integers(0, max_frames))
    hop_length = 160 * draw(st.integers(1, 16))
    seed = draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 2**bits_per_code, (num_quantizers, frames))
    return {
        "codes": codes,
        "samples": frames * hop_length - draw(st.integers(0, hop_length - 1)) if frames else 0,
        "fingerprint": CODEC if with_prior else draw(st.binary(min_size=6, max_size=6)),
        "bits_per_code": bits_per_code,
        "hop_length": hop_length,
        "chunk_frames": draw(st.sampled_from([f for f in CHUNK_FRAMES if f <= 250])),
        "prior": PRIOR if with_prior else None,
        "stream_id": draw(st.none() | st.integers(0, 65535)),
    }


def save(
    destination: Any, codes: Any, *, samples: int, stream_id: int | None = None,
    prior: Any = None, **fields: Any,
) -> None:  # fmt: skip
    """Save codes as a stream, in chunks of the usual length without chunk_frames."""
    header = header_of(fields | {"codes": codes})
    Stream(header, codes, samples, prior=prior).save(destination, stream_id=stream_id)


def stream_to_bytes(codes: Any, **fields: Any) -> bytes:
    """Return the bytes that `save` writes."""
    buffer = io.BytesIO()
    save(buffer, codes, **fields)
    return buffer.getvalue()


def coded_bytes(codes: Any, samples: int, **fields: Any) -> bytes:
    """Return the bytes of a stream with the small frozen prior."""
    small = {"fingerprint": CODEC, "bits_per_code": 4, "hop_length": 640, "prior": PRIOR}
    return stream_to_bytes(codes, samples=samples, **small, **fields)


def header_of(fields: dict[str, Any]) -> StreamHeader:
    """The header to give to a StreamWriter, which sets prior and stream id."""
    return StreamHeader(
        fields["fingerprint"][:3],
        len(fields["codes"]),
        fields["bits_per_code"],
        fields["hop_length"],
        fields.get("chunk_frames", usual_chunk_frames(np.shape(fields["codes"])[-1])),
    )


def data_chunk(
    sequence: int, payload: bytes, *, coded: bool = False, stream_id: int = 0xEF
) -> bytes:
    """A full chunk without its checksum."""
    return struct.pack("<BHH", stream_id, sequence, coded << 15 | len(payload)) + payload


def last_chunk(
    sequence: int, payload: bytes, frames: int, unused: int, *, coded: bool = False
) -> bytes:
    """The last chunk without its checksum."""
    start = struct.pack("<BHH", 0xEF, sequence, coded << 15 | 1 << 14 | len(payload))
    return start + (frames | unused << 12).to_bytes(3, "little") + payload


def assemble(
    *chunks: bytes, header: bytes = HEADER.to_bytes(), prior: bytes = b"", numbers: Any = None
) -> bytes:
    """A stream with right checksums around whatever the chunks say.

    prior: its fingerprint. numbers: of the chunks; by default what their sequence fields say.
    """
    stream = header
    for i, chunk in enumerate(chunks):
        number = struct.unpack_from("<H", chunk, 1)[0] if numbers is None else numbers[i]
        covered = header + prior + struct.pack("<I", number) + chunk
        stream += chunk + struct.pack("<I", zlib.crc32(covered))
    return stream


def with_header_checksum(fields: bytes) -> bytes:
    """12 header bytes with a right checksum behind them."""
    return fields + struct.pack("<H", binascii.crc_hqx(fields, 0xFFFF))


def check_recovered(error: StreamError, present: tuple[bool, ...]) -> None:
    """`error` holds the example's frames that are `present`, and -2 for the others."""
    assert error.stream is not None
    expected = np.where(present, CODES[:, : len(present)], MISSING)
    np.testing.assert_array_equal(error.stream.codes, expected)
    assert error.stream.header == HEADER


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
