"""The parts of an audio file, with sizes as they are and not as the header has them.

A recorder that was switched off leaves sizes of 0 or of the whole recording; `cat a.mp3 b.mp3`
leaves two files in one. libsndfile reads what the first header says, or nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

FLAC_START = b"fLaC\x00\x00\x00\x22"  # with the header of its first block, which has 34 bytes
OGG_BEGINS, OGG_ENDS = 2, 4  # flags of a page
FEWEST_MORE_BYTES = 8000  # behind the declared end; less is taken for padding or a tag
UNKNOWN = {4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}  # of recorders that write to a pipe
# Bits of an MPEG audio frame header: kbit/s of layer III, and Hz, of MPEG 1, 2 and 2.5.
KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MPEG_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class Part:
    """A complete audio file.

    Attributes:
        data: its bytes, with sizes corrected.
        promised: size of the samples in the header relative to the real one, if they differ.
        cut: it ends before its end is marked.
    """

    data: bytes
    promised: float | None = None
    cut: bool = False


@dataclass(frozen=True)
class _Layout:
    """How a container of chunks names and measures them."""

    magic: bytes
    first: int  # offset of the first chunk
    id_bytes: int
    size_bytes: int
    order: str
    align: int
    inclusive: bool  # sizes count the chunk's own header
    has_total: bool  # a size follows the magic
    samples: bytes  # first four bytes of the id of the chunk with the samples


_LAYOUTS = (
    _Layout(b"RIFF", 12, 4, 4, "little", 2, False, True, b"data"),
    _Layout(b"RF64", 12, 4, 4, "little", 2, False, True, b"data"),
    _Layout(b"riff", 40, 16, 8, "little", 8, True, True, b"data"),
    _Layout(b"FORM", 12, 4, 4, "big", 2, False, True, b"SSND"),
    _Layout(b"caff", 8, 4, 8, "big", 1, False, False, b"data"),
)


def parts(data: bytes) -> Iterator[Part]:
    """Yield the audio files that the bytes hold one after the other; at least one."""
    start = data[:4]
    layout = next((layout for layout in _LAYOUTS if layout.magic == start), None)
    if layout is not None:
        yield from _chunked(data, layout)
    elif start == b".snd":
        yield from _au(data)
    elif start == b"fLaC":
        yield from _split(data, [m.start() for m in re.finditer(re.escape(FLAC_START), data)])
    elif start == b"OggS":
        yield from _ogg(data)
    elif start[:3] == b"ID3" or _mpeg_frame(data, 0):
        yield from _split(data, _mp3_starts(data))
    else:
        yield Part(data)


def _chunked(data: bytes, layout: _Layout) -> Iterator[Part]:
    start = 0
    while start < len(data):
        found = _samples_chunk(data, start, layout)
        if found is None:
            yield Part(data[start:])
            return
        size_at, body, declared = found
        ends_at = _declared_end(data, start, layout)
        available = len(data) - body
        if declared > available or (declared == 0 and (ends_at != len(data))):
            unknown = declared >= UNKNOWN[layout.size_bytes] - 2 * body
            yield _corrected(data, start, layout, size_at, body, None if unknown else declared)
            return
        if ends_at is not None:
            end = max(ends_at, body + declared)
        elif (end := data.find(layout.magic, body + declared)) < 0:  # CAF has no size of the whole
            end = len(data)
        if _continues(data, end, layout.magic):
            yield _corrected(data, start, layout, size_at, body, declared)
            return
        yield Part(data if start == 0 and end >= len(data) else data[start:end])
        start = end if data.startswith(layout.magic, end) else len(data)


def _continues(data: bytes, end: int, magic: bytes) -> bool:
    """Tell whether samples follow the declared end: the recorder stopped updating the header."""
    rest = memoryview(data)[end:]
    if len(rest) < FEWEST_MORE_BYTES or data.startswith(magic, end):
        return False
    is_chunk = bytes(rest[:4]).isalnum()
    return not is_chunk and any(rest[:FEWEST_MORE_BYTES])


def _declared_end(data: bytes, start: int, layout: _Layout) -> int | None:
    if not layout.has_total:
        return None
    at = start + layout.id_bytes
    total = _number(data, at, layout)
    if layout.magic == b"RF64" and data[start + 12 : start + 16] == b"ds64":
        total = int.from_bytes(data[start + 20 : start + 28], "little")
    total += 0 if layout.inclusive else layout.id_bytes + layout.size_bytes
    padded = start + total + -total % layout.align  # which some writers leave out at the end
    return start + total if data.startswith(layout.magic, start + total) else padded


def _number(data: bytes, at: int, layout: _Layout) -> int:
    return int.from_bytes(data[at : at + layout.size_bytes], layout.order)  # type: ignore[arg-type]


def _samples_chunk(data: bytes, start: int, layout: _Layout) -> tuple[int, int, int] | None:
    """Find the samples: place of their size, of the first one, and the size that is declared."""
    at, header = start + layout.first, layout.id_bytes + layout.size_bytes
    while at + header <= len(data):
        size_at = at + layout.id_bytes
        size = max(0, _number(data, size_at, layout) - (header if layout.inclusive else 0))
        if data[at : at + 4] == layout.samples:
            if layout.magic == b"RF64" and size == UNKNOWN[4]:
                size_at = start + 28  # in the chunk ds64, which comes first
                size = int.from_bytes(data[size_at : size_at + 8], "little")
            return size_at, at + header, size
        at += header + size + -size % layout.align
    return None


def _corrected(
    data: bytes, start: int, layout: _Layout, size_at: int, body: int, declared: int | None
) -> Part:
    """Write the real sizes into the header of a file that is cut off or was never finished."""
    fixed = bytearray(data[start:])
    body, size_at = body - start, size_at - start
    real = len(fixed) - body
    width = 8 if layout.magic == b"RF64" and size_at == 28 else layout.size_bytes

    def write(value: int, at: int, size: int) -> None:
        fixed[at : at + size] = min(value, UNKNOWN[8] >> (64 - 8 * size)).to_bytes(
            size,
            layout.order,  # type: ignore[arg-type]
        )

    own = layout.id_bytes + layout.size_bytes if layout.inclusive else 0
    write(real + own, size_at, width)
    if layout.has_total:
        total = len(fixed) - (0 if layout.inclusive else layout.id_bytes + layout.size_bytes)
        write(
            total, *((20, 8) if width == 8 and own == 0 else (layout.id_bytes, layout.size_bytes))
        )
    promised = None if declared is None else declared / max(1, real)
    if layout.magic == b"FORM" and (at := fixed.find(b"COMM", 0, body)) >= 0:
        channels = int.from_bytes(fixed[at + 8 : at + 10], "big")
        frames = int.from_bytes(fixed[at + 10 : at + 14], "big")
        width = max(1, channels * -(-int.from_bytes(fixed[at + 14 : at + 16], "big") // 8))
        write((real - 8) // width, at + 10, 4)  # the samples follow two fields of 4 bytes
        promised = frames * width / max(1, real - 8)
    return Part(bytes(fixed), promised)


def _au(data: bytes) -> Iterator[Part]:
    start = 0
    while data[start : start + 4] == b".snd":
        body = start + int.from_bytes(data[start + 4 : start + 8], "big")
        declared = int.from_bytes(data[start + 8 : start + 12], "big")
        end = body + declared
        if declared == 0 or end > len(data) or _continues(data, end, b".snd"):
            # A length that does not fit into the field stays unknown.
            real = min(max(0, len(data) - body), UNKNOWN[4]).to_bytes(4, "big")
            fixed = data[start : start + 8] + real + data[start + 12 :]
            unknown = declared == UNKNOWN[4]
            promised = None if unknown else declared / max(1, len(data) - body)
            yield Part(fixed, promised)
            return
        yield Part(data[start:end])
        start = end


def _ogg(data: bytes) -> Iterator[Part]:
    start = at = 0
    begins, ends = True, False
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        segments = data[26 + at]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        flags = data[at + 5]
        if flags & OGG_BEGINS and not begins:
            yield Part(data[start:at], cut=not ends)
            start = at
        begins = bool(flags & OGG_BEGINS)
        if at + size > len(data):
            ends = False
            break
        ends = bool(flags & OGG_ENDS)
        at += size
    yield Part(data[start:], cut=not ends)


def _split(data: bytes, starts: list[int]) -> Iterator[Part]:
    for start, end in zip([0, *starts[1:]], [*starts[1:], len(data)], strict=True):
        yield Part(data[start:end])


def _mp3_starts(data: bytes) -> list[int]:
    """Find where MP3 files begin: at a tag, or at a frame that counts those that follow."""
    starts: list[int] = []
    at, tag_at, frames = 0, -1, 0
    while at + 4 <= len(data):
        if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
            size = 0
            for byte in data[at + 6 : at + 10]:
                size = size << 7 | byte & 127
            tag_at = at
            at += 10 + size
            continue
        length = _mpeg_frame(data, at)
        if not length:  # another tag, or damage
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        head = data[at : at + 64]
        if frames == 0 or tag_at >= 0 or b"Xing" in head or b"Info" in head:
            starts.append(tag_at if tag_at >= 0 else at)
            tag_at = -1
        frames += 1
        at += length
    return starts


def _mpeg_frame(data: bytes, at: int) -> int:
    """Return the length of the layer III frame that begins here; 0 if none does."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return 0
    version, rate, hz = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or hz == 3 or not 0 < rate < 15:
        return 0
    bps = 1000 * KBPS[version != 3][rate]
    factor = 144 if version == 3 else 72
    return factor * bps // MPEG_HZ[version][hz] + (data[at + 2] >> 1 & 1)
