"""Every exception that vqasr raises on purpose, so that a caller can catch ``VqasrError`` alone."""

from typing import Any


class VqasrError(Exception):
    """Base of every error that vqasr raises on purpose."""


class InvalidCodesError(VqasrError, ValueError):
    """Codes that cannot be written: wrong type, shape or dtype, or a value out of range."""


class StreamError(VqasrError, ValueError):
    """A ``.vqs`` stream that cannot be read, or was about to be written wrongly.

    ``stream`` is the `vqasr.Stream` of what was intact (only a truncated or corrupt stream that was
    read as a whole has such a part), else None.
    """

    stream: Any = None


class NotAStreamError(StreamError):
    """The bytes do not begin with the ``.vqs`` magic, or there are none."""


class UnsupportedVersionError(StreamError):
    """The stream has a format version that this version of vqasr cannot read."""


class CorruptStreamError(StreamError):
    """The stream was damaged: a checksum, sequence number, field, padding or length is wrong.

    ``stream`` holds all intact chunks, with -2 for lost frames between them, or None where no chunk
    is intact.
    """


class TruncatedStreamError(StreamError):
    """The stream ends before its last chunk.

    ``stream`` holds every intact chunk before the cut, with ``samples`` = frames x hop length;
    it is None only where the header itself is cut.
    """


class CodecMismatchError(StreamError):
    """The stream was written by another codec than the one it is to be decoded with."""


class PriorMismatchError(StreamError):
    """The stream was range-coded with another prior than the one at hand, or an unknown one."""


class CodecError(VqasrError, ValueError):
    """A codec that cannot be found or loaded."""


class AudioError(VqasrError, ValueError):
    """Audio that cannot be read or encoded: no audio file, empty, NaN, unknown rate."""


class RecogniserError(VqasrError, ValueError):
    """A recogniser or adapter that cannot be found, loaded or used with this codec."""


class TrainingError(VqasrError, ValueError):
    """A training configuration or data set that cannot be used."""
