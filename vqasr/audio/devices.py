"""Microphone and loudspeaker of this machine, through PortAudio (sounddevice, extra `live`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from typing import Any, Literal

import numpy as np

from vqasr.audio.live import POLL_S
from vqasr.audio.resampling import LiveResampler
from vqasr.errors import AudioError, VqasrError
from vqasr.grid import HOP_LENGTH, SAMPLING_RATE_HZ

INPUT_BLOCK_S = 0.01
CUSHION_S = 0.2
MOST_WAITING = 1000  # blocks, 10 s


def check_device(kind: Literal["input", "output"], device: str | None) -> None:
    """Raise AudioError if there is no such device, before anything is loaded for it."""
    _settings(_sounddevice(), kind, _number(device))


class Microphone:
    """Iterate over audio from a microphone, in pieces of 40 ms as they come in.

    Pieces are (samples,) float32, mono at 16 kHz. The device is open within a `with` statement.

    Args:
        device: number or part of the name, as `python -m sounddevice` lists them; None for the
            default.
        first_piece: samples of the first piece, see `LiveAudio`.

    Attributes:
        overflows: how often samples were lost because pieces were not taken in time.

    Raises:
        AudioError: sounddevice or PortAudio is missing, or the device cannot be opened or breaks.
    """

    def __init__(self, device: str | None = None, first_piece: int = HOP_LENGTH):
        self._sounddevice, self._device = _sounddevice(), _number(device)
        self._rate_hz, channels = _settings(self._sounddevice, "input", self._device)
        self._resampler = LiveResampler(self._rate_hz, SAMPLING_RATE_HZ)
        self._first = self._resampler.needed(first_piece)
        self._queue: Queue[np.ndarray] = Queue(MOST_WAITING)
        self._stopped = False
        self.overflows = 0
        with _explained(self._sounddevice, self._device):
            self._stream = self._sounddevice.InputStream(
                samplerate=self._rate_hz, blocksize=round(INPUT_BLOCK_S * self._rate_hz),
                device=self._device, channels=channels, dtype="float32", callback=self._take,
            )  # fmt: skip

    def __enter__(self) -> "Microphone":
        with _explained(self._sounddevice, self._device):
            self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def stop(self) -> None:
        """End the audio after the samples that are waiting; for signal handlers."""
        self._stopped = True

    def _take(self, block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Take a block of samples, in PortAudio's thread."""
        self.overflows += bool(status.input_overflow)
        try:
            self._queue.put_nowait(block.mean(1))
        except Full:
            self.overflows += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        wanted, samples = self._first, np.zeros(0, np.float32)
        for block in self._blocks():
            samples = np.concatenate([samples, block])
            while len(samples) >= wanted:
                yield self._resampler.push(samples[:wanted])
                samples = samples[wanted:]
                wanted = round(HOP_LENGTH * self._rate_hz / SAMPLING_RATE_HZ)
        yield np.concatenate([self._resampler.push(samples), self._resampler.finish()])

    def _blocks(self) -> Iterator[np.ndarray]:
        while True:
            if self._stopped:
                self._stream.stop()
                if self._queue.empty():
                    return
            try:
                yield self._queue.get(timeout=POLL_S)
            except Empty:
                if not (self._stopped or self._stream.active):
                    raise AudioError("the microphone has stopped. Is it still there?") from None


class Loudspeaker:
    """Play audio at 16 kHz as it is written; the device is open within a `with` statement.

    Args:
        device: as of `Microphone`.
        cushion_s: silence before the first samples, and wherever the device has run out of them:
            later ones may then be late by this.

    Attributes:
        gaps: how often the device ran out of samples.

    Raises:
        AudioError: as `Microphone`.
    """

    def __init__(self, device: str | None = None, cushion_s: float = CUSHION_S):
        self._sounddevice, self._device = _sounddevice(), _number(device)
        rate_hz, self._channels = _settings(self._sounddevice, "output", self._device)
        self._resampler = LiveResampler(SAMPLING_RATE_HZ, rate_hz)
        self._cushion, self._dry, self.gaps = round(cushion_s * rate_hz), True, 0
        with _explained(self._sounddevice, self._device):
            self._stream = self._sounddevice.OutputStream(
                samplerate=rate_hz, device=self._device, channels=self._channels, dtype="float32",
                latency=cushion_s,
            )  # fmt: skip

    def __enter__(self) -> "Loudspeaker":
        with _explained(self._sounddevice, self._device):
            self._stream.start()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Play (samples,) float32 after those before; wait until there is room for them."""
        self._write(self._resampler.push(samples))

    def _write(self, samples: np.ndarray) -> None:
        if not len(samples):
            return
        if self._dry:
            samples = np.pad(samples, (self._cushion, 0))
        wave = np.clip(samples, -1.0, 1.0).astype(np.float32)
        with _explained(self._sounddevice, self._device):
            ran_out = self._stream.write(np.repeat(wave[:, None], self._channels, axis=1))
        # Before the first samples it has always run out.
        self.gaps += ran_out and not self._dry
        self._dry = ran_out and not self._dry

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or issubclass(kind, VqasrError):
                self._write(self._resampler.finish())
                with _explained(self._sounddevice, self._device):
                    self._stream.stop()  # when all has been played
        finally:
            self._stream.close()


@contextmanager
def _explained(sounddevice: Any, device: int | str | None, problem: str = "used") -> Iterator[None]:
    """Turn PortAudio's errors into `AudioError`."""
    try:
        yield
    except (sounddevice.PortAudioError, ValueError) as error:
        name = "the default device" if device is None else f"device {device!r}"
        reason = " ".join(str(error).split())  # several devices of a name fill lines
        raise AudioError(
            f"{name} cannot be {problem} ({reason}). `python -m sounddevice` lists the devices."
        ) from error


def _sounddevice() -> Any:
    try:
        import sounddevice  # needs PortAudio, which few servers have
    except ImportError as error:
        raise AudioError(
            'sounddevice is not installed. Run `pip install "vqasr[live]"`.'
        ) from error
    except OSError as error:
        raise AudioError(
            f"sounddevice does not find PortAudio ({error}). Install it, as in `apt install "
            "libportaudio2`."
        ) from error
    except Exception as error:  # its own error, of a module that could not be imported
        raise AudioError(f"PortAudio does not start ({error}). Are there any devices?") from error
    return sounddevice


def _number(device: str | None) -> int | str | None:
    return int(device) if device is not None and device.isdecimal() else device


def _settings(sounddevice: Any, kind: str, device: int | str | None) -> tuple[int, int]:
    """Return rate and channels that a device has: 16 kHz and one of them, if it can."""
    with _explained(sounddevice, device, f"taken for {kind}"):
        found = sounddevice.query_devices(device, kind)
    check = getattr(sounddevice, f"check_{kind}_settings")
    own_hz, channels = round(found["default_samplerate"]), found[f"max_{kind}_channels"]
    for rate_hz in (SAMPLING_RATE_HZ, own_hz):
        for count in (1, min(2, channels)):
            try:
                check(device=device, channels=count, dtype="float32", samplerate=rate_hz)
                return rate_hz, count
            except (sounddevice.PortAudioError, ValueError):
                continue
    return own_hz, 1  # opening it says what is wrong
