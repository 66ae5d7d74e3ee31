"""Exceptions of vqasr; catch `VqasrError` to catch them all."""

from typing import Any


class VqasrError(Exception):
    """Base class of all exceptions of vqasr."""


class InvalidCodesError(VqasrError, ValueError):
    """Codes that cannot be written: wrong type, shape or dtype, or a value out of range."""


class StreamError(VqasrError, ValueError):
    """A ``.vqs`` stream that cannot be read, or that would be written wrongly.

    ``stream`` is the intact part of a truncated or corrupt `vqasr.Stream` that was read as a whole,
    else None.
    """

    stream: Any = None


class NotAStreamError(StreamError):
    """The bytes are empty or do not begin with the ``.vqs`` magic."""


class UnsupportedVersionError(StreamError):
    """The stream has a format version that this version of vqasr cannot read."""


class CorruptStreamError(StreamError):
    """The stream is damaged: a checksum, sequence number, field, padding or length is wrong.

    ``stream`` holds all intact chunks, with -2 for lost frames between them; None without any.
    """


class TruncatedStreamError(StreamError):
    """The stream ends before its last chunk.

    ``stream`` holds all intact chunks, with ``samples`` = frames x hop length; None without header.
    """


class CodecMismatchError(StreamError):
    """The codes or the stream were written by another codec."""


class PriorMismatchError(StreamError):
    """The stream was range-coded with another or an unknown prior."""


class CodecError(VqasrError, ValueError):
    """A codec that cannot be found or loaded."""


class AudioError(VqasrError, ValueError):
    """Audio that cannot be read or encoded: wrong format, empty, NaN or of an impossible rate."""


class PlaceError(AudioError):
    """A file or store cannot be reached now; what it holds is not known to be damaged."""


class AudioWarning(UserWarning):
    """Audio that differs from what its file promises, or of which a part is lost or not used."""


class RecogniserError(VqasrError, ValueError):
    """A recogniser or adapter that cannot be found, loaded or used with this codec."""


class TrainingError(VqasrError, ValueError):
    """A training configuration or data set that cannot be used."""
