"""Bitrate of sending the transcript itself: the lower bound of every speech codec."""

import lzma

TEXT_XZ = "text:xz"
TEXT_FLOORS = ("text", TEXT_XZ)


def text_bytes(name: str, texts: list[str]) -> int:
    """Return the number of bytes of transcripts.

    Args:
        name: "text" for UTF-8 with a newline after each text; "text:xz" for all of them in one xz
            archive.
        texts: transcripts of the data set.
    """
    data = "".join(f"{text.strip()}\n" for text in texts).encode()
    if name == TEXT_XZ:
        data = lzma.compress(data, lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)
    return len(data)
