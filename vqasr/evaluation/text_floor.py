"""The floor under every curve of speech bits: sending the transcript itself."""

import lzma

from vqasr.errors import VqasrError

TEXT = "text"
TEXT_XZ = "text:xz"
TEXT_FLOORS = (TEXT, TEXT_XZ)


def text_bytes(name: str, texts: list[str]) -> int:
    """Bytes of transcripts.

    Args:
        name: "text" for UTF-8, an utterance each with a byte for its end; "text:xz" for all of them
            together through xz, which learns from one what it needs for the next.
        texts: what was said.

    Raises:
        VqasrError: no such floor.
    """
    data = "".join(f"{text.strip()}\n" for text in texts).encode()
    if name == TEXT:
        return len(data)
    if name == TEXT_XZ:
        return len(lzma.compress(data, lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME))
    raise VqasrError(f"unknown floor {name!r}; there are {' and '.join(TEXT_FLOORS)}.")
