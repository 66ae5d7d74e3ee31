"""Audio that is still coming in: WAV, AU or raw samples from a pipe."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue

import numpy as np
import soundfile

from vqasr.audio.arrays import MOST_CHANNELS, frames_to_mono, lone_channel
from vqasr.audio.files import read_audio
from vqasr.audio.resampling import LiveResampler, check_rate
from vqasr.errors import AudioError
from vqasr.files import PIECE_BYTES, Begun
from vqasr.grid import HOP_LENGTH, SAMPLING_RATE_HZ

NAME = "standard input"  # in errors
POLL_S = 0.05
# First bytes of formats that libsndfile reads without seeking.
STREAMABLE = (b"RIFF", b"RIFX", b"RF64", b".snd")
LONGEST_HEADER_BYTES = 1 << 20  # of a part of a WAV file before its samples
MOST_WAITING = 250  # pieces, 10 s


class LiveAudio:
    """Iterate over audio from a pipe, in pieces of 40 ms as they come in.

    Pieces are (samples,) float32, mono at 16 kHz. Other formats than WAV and AU are read to their
    end, and make one piece. Channels that cancel each other (opposite phase) are found in a piece,
    not in the whole recording as by `read_audio`; from there on the loudest is used alone.

    Args:
        file: binary; only read from.
        pcm_hz: sampling rate of raw 16-bit little-endian mono samples; None for a file with a
            header.
        first_piece: samples of the first piece at 16 kHz, or a few more: see
            `VQCodecConfig.first_piece`.

    Raises (while iterating):
        AudioError: as `read_audio`. The pieces before remain valid.
    """

    def __init__(self, file: Begun, pcm_hz: int | None = None, first_piece: int = HOP_LENGTH):
        self._file, self._first_piece = file, first_piece
        self._pcm_hz = None if pcm_hz is None else check_rate(pcm_hz, NAME)
        self._queue: Queue[np.ndarray | BaseException | None] = Queue(MOST_WAITING)
        self._stopped = False

    def stop(self) -> None:
        """End the audio after the pieces that are waiting; for signal handlers."""
        self._stopped = True  # no more: the queue may be locked by the code that was interrupted

    def __iter__(self) -> Iterator[np.ndarray]:
        # A thread waits for the pipe, so that `stop` is possible at any time.
        threading.Thread(target=self._fill, daemon=True).start()
        while not (self._stopped and self._queue.empty()):
            try:
                piece = self._queue.get(timeout=POLL_S)
            except Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def _fill(self) -> None:
        try:
            for piece in self._read():
                self._queue.put(piece)
                if self._stopped:
                    break
            self._queue.put(None)
        except Exception as error:  # raised where the pieces are used
            self._queue.put(error)

    def _read(self) -> Iterator[np.ndarray]:
        if self._pcm_hz is None and not self._file.head.startswith(STREAMABLE):
            yield read_audio(self._file.read_all(), name=NAME)
            return
        # libsndfile reads pipes of the system only; some of the bytes were read from this one.
        source, sink = os.pipe()
        wav = self._pcm_hz is None and self._file.head.startswith(b"RIFF")
        threading.Thread(target=_pump, args=(self._file, sink, wav), daemon=True).start()
        try:
            yield from self._pieces(source)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{NAME}: cannot be read as audio ({error}).") from error
        finally:
            with suppress(OSError):  # whoever closed it before must not hide the error above
                os.close(source)

    def _pieces(self, source: int) -> Iterator[np.ndarray]:
        raw = {}
        if self._pcm_hz is not None:
            raw = {
                "samplerate": self._pcm_hz, "channels": 1, "format": "RAW", "subtype": "PCM_16",
                "endian": "LITTLE",
            }  # fmt: skip
        with soundfile.SoundFile(source, closefd=False, **raw) as file:
            rate_hz = check_rate(file.samplerate, NAME)
            resampler = LiveResampler(rate_hz, SAMPLING_RATE_HZ)
            frames, empty = resampler.needed(self._first_piece), True
            alone: int | None = None  # the channel to use, once the others cancelled it
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                frames, empty = round(HOP_LENGTH * rate_hz / SAMPLING_RATE_HZ), False
                if alone is None and len(block) > MOST_CHANNELS:
                    alone = lone_channel(block.T, NAME)
                used = block if alone is None else block[:, [alone]]
                yield resampler.push(frames_to_mono(used, NAME))
            if empty:
                raise AudioError(f"{NAME}: holds no samples. Was the recording interrupted?")
            yield resampler.finish()


def _pump(file: Begun, sink: int, wav: bool) -> None:
    with suppress(OSError, ValueError), os.fdopen(sink, "wb", buffering=0) as pipe:
        if wav:
            pipe.write(_wav_header(file))
        while data := file.read(PIECE_BYTES):
            pipe.write(data)


def _wav_header(file: Begun) -> bytes:
    """Read a WAV file up to its samples; where they have no size, as if they had the largest.

    A recorder that cannot go back leaves 0, which libsndfile takes for the end.
    """
    header = file.read_exactly(12)
    while len(chunk := file.read_exactly(8)) == 8:
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            return header + (chunk if size else name + b"\xff" * 4)
        header += chunk
        if size > LONGEST_HEADER_BYTES:
            return header
        header += file.read_exactly(size + size % 2)
    return header + chunk
