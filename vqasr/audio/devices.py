"""Microphone and loudspeaker of this machine, through PortAudio (sounddevice, extra `live`)."""

from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any

import numpy as np

from vqasr.audio.live import BLOCK_S
from vqasr.audio.resampling import LiveResampler
from vqasr.errors import AudioError
from vqasr.grid import SAMPLING_RATE_HZ

INPUT_BLOCK_S = 0.01
OUTPUT_LATENCY_S = 0.1
MOST_WAITING = 1000  # blocks, 10 s


class Microphone:
    """Iterate over audio from a microphone, in pieces of about 40 ms as they come in.

    Pieces are (samples,) float32, mono at 16 kHz. `overflows` counts how often samples were lost
    because pieces were not taken in time.

    Args:
        device: number or part of the name, as `python -m sounddevice` lists them; None for the
            default.
        first_piece_s: length of the first piece, to 10 ms.

    Raises:
        AudioError: sounddevice or PortAudio is missing, or the device cannot be opened or breaks.
    """

    def __init__(self, device: str | None = None, first_piece_s: float = BLOCK_S):
        self._sounddevice, self._device = _sounddevice(), _number(device)
        self._rate_hz = _rate_hz(self._sounddevice, "input", self._device)
        self._first_piece_s = first_piece_s
        self._queue: Queue[np.ndarray | None] = Queue(MOST_WAITING)
        self._stopped = False
        self.overflows = 0

    def stop(self) -> None:
        """End the audio after the pieces that are waiting; for signal handlers."""
        self._stopped = True
        with suppress(Full):
            self._queue.put_nowait(None)

    def _take(self, block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        """Take a block of samples, in PortAudio's thread."""
        self.overflows += bool(status.input_overflow)
        try:
            self._queue.put_nowait(block[:, 0].copy())
        except Full:
            self.overflows += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        resampler = LiveResampler(self._rate_hz, SAMPLING_RATE_HZ)
        wanted, blocks = round(self._first_piece_s * self._rate_hz), np.zeros(0, np.float32)
        for block in self._blocks():
            blocks = np.concatenate([blocks, block])
            if len(blocks) >= wanted:
                yield resampler.push(blocks)
                wanted, blocks = round(BLOCK_S * self._rate_hz), blocks[:0]
        yield np.concatenate([resampler.push(blocks), resampler.finish()])

    def _blocks(self) -> Iterator[np.ndarray]:
        with (
            _explained(self._sounddevice, self._device),
            self._sounddevice.InputStream(
                samplerate=self._rate_hz, blocksize=round(INPUT_BLOCK_S * self._rate_hz),
                device=self._device, channels=1, dtype="float32", callback=self._take,
            ) as stream,
        ):  # fmt: skip
            while True:
                if self._stopped:
                    stream.stop()
                    if self._queue.empty():
                        return
                try:
                    block = self._queue.get(timeout=1.0)
                except Empty:
                    if not stream.active:
                        raise AudioError("the microphone has stopped. Is it still there?") from None
                    continue
                if block is not None:
                    yield block


class Loudspeaker:
    """Play audio at 16 kHz as it is written.

    Args:
        device: as of `Microphone`.

    Raises:
        AudioError: as `Microphone`.
    """

    def __init__(self, device: str | None = None):
        self._sounddevice, self._device = _sounddevice(), _number(device)
        rate_hz = _rate_hz(self._sounddevice, "output", self._device)
        self._resampler = LiveResampler(SAMPLING_RATE_HZ, rate_hz)
        with _explained(self._sounddevice, self._device):
            self._stream = self._sounddevice.OutputStream(
                samplerate=rate_hz, device=self._device, channels=1, dtype="float32",
                latency=OUTPUT_LATENCY_S,
            )  # fmt: skip

    def __enter__(self) -> "Loudspeaker":
        self._stream.start()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Play (samples,) float32 after those before; wait until there is room for them."""
        self._write(self._resampler.push(samples))

    def _write(self, samples: np.ndarray) -> None:
        with _explained(self._sounddevice, self._device):
            self._stream.write(np.clip(samples, -1.0, 1.0)[:, None].astype(np.float32))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if kind is None:
            self._write(self._resampler.finish())
            self._stream.stop()  # when all has been played
        self._stream.close()


class _explained:
    """Turn PortAudio's errors into `AudioError`."""

    def __init__(self, sounddevice: Any, device: int | str | None):
        self._error = sounddevice.PortAudioError
        self._device = "the default device" if device is None else f"device {device!r}"

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, self._error):
            raise AudioError(
                f"{self._device} cannot be used ({error.args[0]}). `python -m sounddevice` lists "
                "the devices."
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
    return int(device) if device is not None and device.isdigit() else device


def _rate_hz(sounddevice: Any, kind: str, device: int | str | None) -> int:
    """Return 16 kHz, or the rate of a device that does not have it."""
    try:
        check = getattr(sounddevice, f"check_{kind}_settings")
        check(device=device, channels=1, dtype="float32", samplerate=SAMPLING_RATE_HZ)
        return SAMPLING_RATE_HZ
    except (sounddevice.PortAudioError, ValueError):
        pass
    try:
        return round(sounddevice.query_devices(device, kind)["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        name = "There is no default device" if device is None else f"There is no device {device!r}"
        raise AudioError(
            f"{name} for {kind} ({error}). `python -m sounddevice` lists the devices."
        ) from error
