"""docs/stream-format.md and the code say the same about every byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from stream_helpers import CODES, EXAMPLE, FIELDS, HEADER, SAMPLES, streams, unhurried

from vqasr.stream import stream_from_bytes, stream_to_bytes

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "stream-format.md"


def decode_by_the_document(data: bytes) -> tuple[list[list[int]], int]:
    """A second reader, from the document alone, on Python's big integers."""
    quantizers, width = data[10], data[11]
    codes: list[list[int]] = [[] for _ in range(quantizers)]
    position = 14
    while frames := int.from_bytes(data[position : position + 2], "little"):
        size = -(-frames * quantizers * width // 8)
        payload = data[position + 4 : position + 4 + size]
        bits = "".join(f"{byte:08b}" for byte in payload)
        for index in range(frames * quantizers):
            codes[index % quantizers].append(int(bits[index * width : (index + 1) * width], 2))
        position += 8 + size
    assert len(data) == position + 10
    return codes, int.from_bytes(data[position + 2 : position + 6], "little")


@unhurried
@given(streams(max_frames=12))
def test_a_reader_made_from_the_document_agrees(fields: dict[str, Any]) -> None:
    codes, samples = decode_by_the_document(stream_to_bytes(**fields))
    assert codes == fields["codes"].tolist()
    assert samples == fields["samples"]


def test_the_example_in_the_document_is_the_golden_stream() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```hex\n(.*?)```", document, flags=re.DOTALL)
    assert [bytes.fromhex(block) for block in blocks] == [EXAMPLE]
    explained = "".join(re.findall(r"^\| `((?:[0-9a-f]{2} ?)+)` \|", document, flags=re.MULTILINE))
    assert bytes.fromhex(explained) == EXAMPLE


def test_the_example_is_what_the_code_writes_and_reads() -> None:
    assert stream_to_bytes(CODES, **FIELDS).hex() == EXAMPLE.hex()
    stream = stream_from_bytes(EXAMPLE)
    np.testing.assert_array_equal(stream.codes, CODES)
    assert (stream.samples, stream.header) == (SAMPLES, HEADER)
