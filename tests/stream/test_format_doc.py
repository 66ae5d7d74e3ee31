"""docs/stream-format.md and the code say the same about every byte."""

from __future__ import annotations

import binascii
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prior_helpers import CODEC, PRIOR, integers_only, likely_codes
from stream_helpers import (
    CODES,
    EXAMPLE,
    FIELDS,
    SAMPLES,
    coded_bytes,
    stream_to_bytes,
    streams,
    unhurried,
)
from test_single import SHORT, with_checksum

from vqasr.stream.header import StreamHeader
from vqasr.stream.stream import Stream

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "stream-format.md"
LENGTHS = (1, 2, 5, 10, 15, 25, 50, 75, 125, 250, 375, 500, 625, 750, 1500, 3000)


def decode_by_the_document(
    data: bytes, pitch: list[int] | None = None
) -> tuple[list[list[int]], int]:
    """A second reader, from the document alone, on Python's big integers.

    The pitch of streams that have it is added to `pitch`.
    """
    little = int.from_bytes
    assert data[2] & 0x1F == 1
    if data[2] & 0x80:
        return decode_short(data, pitch)
    assert binascii.crc_hqx(data[:12], 0xFFFF) == little(data[12:14], "little")
    quantizers, width = (data[8] >> 4) + 1, (data[8] & 15) + 1
    hop_length, chunk_frames = ((data[9] >> 4) + 1) * 160, LENGTHS[data[9] & 15]
    codes: list[list[int]] = [[] for _ in range(quantizers)]
    position, sequence, last = 14, 0, False
    unused = 0
    while not last:
        start = position
        assert data[start] == data[10]
        assert little(data[start + 1 : start + 3], "little") == sequence % 65536
        field = little(data[start + 3 : start + 5], "little")
        size, last, coded = field & 0x3FFF, bool(field & 0x4000), bool(field & 0x8000)
        position = start + 5
        frames = chunk_frames
        if last:
            end = little(data[position : position + 3], "little")
            frames, unused = end & 0xFFF, end >> 12
            position += 3
        payload = data[position : position + size]
        position += size
        fingerprint = PRIOR.fingerprint if any(data[6:8]) else b""
        number = sequence.to_bytes(4, "little")
        expected = zlib.crc32(data[:14] + fingerprint + number + data[start:position])
        assert little(data[position : position + 4], "little") == expected
        position += 4
        if data[2] & 0x40:
            track, payload = split_pitch(payload, frames)
            pitch += track
        found = range_decoded(payload, quantizers, frames) if coded else packed(payload, width)
        for index in range(frames * quantizers):
            codes[index % quantizers].append(found[index])
        sequence += 1
    assert len(data) == position
    return codes, len(codes[0]) * hop_length - unused


def decode_short(data: bytes, pitch: list[int] | None) -> tuple[list[list[int]], int]:
    """A single chunk, from the document alone."""
    quantizers, width = (data[8] >> 4) + 1, (data[8] & 15) + 1
    hop_length, end = ((data[9] >> 4) + 1) * 160, int.from_bytes(data[10:13], "little")
    frames, unused, payload = end & 0xFFF, end >> 12, data[13:-4]
    assert frames < LENGTHS[data[9] & 15]
    fingerprint = PRIOR.fingerprint if any(data[6:8]) else b""
    assert int.from_bytes(data[-4:], "little") == zlib.crc32(fingerprint + data[:-4])
    if data[2] & 0x40:
        track, payload = split_pitch(payload, frames)
        pitch += track
    if len(payload) == -(-frames * quantizers * width // 8):
        found = packed(payload, width)
    else:
        found = range_decoded(payload, quantizers, frames)
    codes = [found[j : frames * quantizers : quantizers] for j in range(quantizers)]
    return codes, frames * hop_length - unused


def packed(payload: bytes, width: int) -> list[int]:
    bits = "".join(f"{byte:08b}" for byte in payload)
    return [int(bits[i : i + width], 2) for i in range(0, len(bits) - width + 1, width)]


class RangeCoded:
    """Symbols of a range-coded payload."""

    def __init__(self, payload: bytes):
        self.code = int.from_bytes(payload[:7].ljust(7, b"\0"), "big")
        self.rest, self.span = iter(payload[7:]), 2**56

    def next(self, table: list[int]) -> int:
        unit = self.span // sum(table)
        target, start, symbol = self.code // unit, 0, 0
        while target >= start + table[symbol]:
            start, symbol = start + table[symbol], symbol + 1
        self.code, self.span = self.code - unit * start, unit * table[symbol]
        while self.span < 2**48:
            self.span, self.code = self.span * 256, self.code * 256 + next(self.rest, 0)
        return symbol


def range_decoded(payload: bytes, quantizers: int, frames: int) -> list[int]:
    coded, codes = RangeCoded(payload), np.zeros((quantizers, frames), int)
    for t in range(frames):
        for j in range(quantizers):
            codes[j, t] = coded.next(integers_only(PRIOR, codes[:, : t + 1])[t][j])
    return [int(c) for c in codes.T.ravel()]


def split_pitch(payload: bytes, frames: int) -> tuple[list[int], bytes]:
    """Pitch of a chunk, and the bytes of its codes."""
    size, begin = payload[0], 1
    if size >= 128:
        size, begin = size - 128 + 128 * payload[1], 2
    coded, pitch, last, before = RangeCoded(payload[begin : begin + size]), [], 0, 0
    weights = {True: [4096], False: [4096]}  # by whether the frame before is voiced
    for _ in range(73):
        weights[True].append(max(1, weights[True][-1] // 2))
        weights[False].append(max(1, weights[False][-1] * 7 // 8))
    for _ in range(frames):
        code = 0
        if coded.next([1, 10] if before else [7, 1]):
            table = [1] * 74
            if last:
                table = [weights[before > 0][abs(c - last)] for c in range(1, 75)]
            code = last = 1 + coded.next(table)
        pitch.append(code)
        before = code
    return pitch, payload[begin + size :]


@unhurried
@given(streams(max_frames=9))
def test_a_reader_made_from_the_document_agrees(fields: dict[str, Any]) -> None:
    codes, samples = decode_by_the_document(stream_to_bytes(**fields))
    assert codes == fields["codes"].tolist()
    assert samples == fields["samples"]


@pytest.mark.parametrize("chunk_frames", [10, 250])
def test_it_agrees_on_range_coded_chunks(chunk_frames: int) -> None:
    codes = likely_codes(PRIOR, 3, 24)
    data = coded_bytes(codes, 24 * 640 - 3, chunk_frames=chunk_frames)
    assert decode_by_the_document(data) == (codes.tolist(), 24 * 640 - 3)


@pytest.mark.parametrize("single", [False, True])
@unhurried
@given(st.lists(st.integers(0, 74), min_size=1, max_size=60))
def test_it_agrees_on_pitch(single: bool, track: list[int]) -> None:
    frames = len(track)
    codes = np.random.default_rng(frames).integers(0, 16, (2, frames))
    header = StreamHeader(
        CODEC[:3], 2, 4, 640, chunk_frames=250 if single else 10, single=single, pitch=True
    )
    pitch = np.array(track)
    written = Stream(header, codes, frames * 640, pitch=pitch).to_bytes()
    assert bool(written[2] & 0x80) == (single or frames < 10)
    found: list[int] = []
    assert decode_by_the_document(written, found) == (codes.tolist(), frames * 640)
    assert found == track


def test_the_example_in_the_document_is_the_golden_stream() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:hex|text)\n(.*?)```", document, flags=re.DOTALL)
    assert [bytes.fromhex(block) for block in blocks] == [EXAMPLE, with_checksum(SHORT)]
    explained = "".join(re.findall(r"^\| `((?:[0-9a-f]{2} ?)+)` \|", document, flags=re.MULTILINE))
    assert bytes.fromhex(explained) == EXAMPLE


def test_the_example_is_what_the_code_writes_and_reads() -> None:
    assert stream_to_bytes(CODES, **FIELDS).hex() == EXAMPLE.hex()
    stream = Stream.load(EXAMPLE)
    np.testing.assert_array_equal(stream.codes, CODES)
    assert stream.samples == SAMPLES
