"""The systems that `vqasr evaluate` compares: what is heard, what it costs, and its text."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import decode, encode_audio, encode_latents, stream_of
from vqasr.compression.rates import OperatingPoint, operating_point
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.evaluation.classical import classical_names
from vqasr.evaluation.kmeans import KMeansTokens
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.neural import RANDOM
from vqasr.evaluation.packet_loss import drop_chunks
from vqasr.evaluation.text_floor import TEXT_FLOORS
from vqasr.stream.rates import Rates
from vqasr.stream.stream import Stream

PCM_BITS_PER_SAMPLE = 16
CONTINUOUS = "vqasr:continuous"
LOSS = "+loss"
KMEANS = "kmeans:"
AudioCodec = Callable[[np.ndarray], tuple[int, np.ndarray]]


@dataclass
class Heard:
    """What a system makes of some clips.

    Attributes:
        texts: one per clip; none where nothing is recognised.
        asr_s: seconds of computing, from codes, latents or audio to text, for all clips together.
        stream_bytes: size of each clip's stream; None where nothing is transmitted as bytes.
        encode_s: audio to codes (of a classical codec: to packets and back); None without a codec.
        coding_s: codes to bytes and bytes to codes; None without codes.
        codes: (n, frames) of each clip; None without any.
    """

    texts: list[str]
    asr_s: float
    stream_bytes: list[int] | None = None
    encode_s: float | None = None
    coding_s: float | None = None
    codes: list[np.ndarray] | None = None


class System(ABC):
    """One way from audio to text.

    Attributes:
        name: as it was asked for.
        prior: range-codes its streams, if it writes any.
    """

    name: str
    prior: CodePrior | None = None

    @abstractmethod
    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        """Transcribe (samples,) float32 clips at 16 kHz, timing each part."""

    def rates(self) -> Rates | None:
        """Counts what its codes cost; None where there are no codes."""
        return None

    def speech(self, codes: np.ndarray) -> np.ndarray | None:
        """(n, frames) codes -> (frames,) bool: where somebody speaks; None where nobody knows."""
        return None

    def sound(self, clip: np.ndarray) -> np.ndarray | None:
        """(samples,) -> what a person hears of it, (samples,); None where that is no sound."""
        return None


class AudioSystem(System):
    """Audio through the recogniser, uncompressed or by way of a codec that gives audio back.

    Args:
        name: of the system.
        recogniser: hears it.
        codec: (samples,) -> bytes that it takes, and (samples,) that are heard; None for none.
    """

    def __init__(self, name: str, recogniser: Recogniser, codec: AudioCodec | None = None):
        self.name = name
        self._recogniser = recogniser
        self._codec = codec

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        started = time.perf_counter()
        size, heard, encode_s = (
            [len(clip) * PCM_BITS_PER_SAMPLE // 8 for clip in clips],
            clips,
            None,
        )
        if self._codec is not None:
            coded = [self._codec(clip) for clip in clips]
            size, heard = [s for s, _ in coded], [audio for _, audio in coded]
            encode_s = time.perf_counter() - started
            started = time.perf_counter()
        texts = self._recogniser.transcribe_audio(heard)
        return Heard(texts, time.perf_counter() - started, size, encode_s)

    def sound(self, clip: np.ndarray) -> np.ndarray | None:
        return clip if self._codec is None else self._codec(clip)[1]


class CostSystem(System):
    """A codec that nobody is to hear: its bytes and its time, and no text.

    Args:
        name: of the system.
        codec: as `AudioSystem` takes it.
    """

    def __init__(self, name: str, codec: AudioCodec):
        self.name = name
        self._codec = codec

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        started = time.perf_counter()
        size = [self._codec(clip)[0] for clip in clips]
        return Heard([], 0.0, size, time.perf_counter() - started)


class CodesSystem(System):
    """Codes of the codec to the recogniser, directly.

    Args:
        name: "vqasr:N" or "vqasr:Rbps", also with "+lossP", or "vqasr:continuous".
        codec: the codec.
        recogniser: with the adapter that belongs to the codec.
        prior: range-codes the streams; None for the one that ships for the codec.
        chunk_frames: frames in a chunk of the streams; None as `stream_to_bytes`.
        seed: of the chunks that are lost.

    Raises:
        VqasrError: no such system.
        CodecMismatchError: the adapter belongs to another codec.
    """

    def __init__(
        self,
        name: str,
        codec: VQCodecModel,
        recogniser: Recogniser,
        prior: CodePrior | None = None,
        chunk_frames: int | None = None,
        seed: int = 0,
    ):
        self.name = name
        self.chunk_frames = chunk_frames
        name, _, loss = name.partition(LOSS)
        self._loss = float(loss or 0.0) / 100.0
        self._rng = np.random.default_rng(seed)
        self._codec = codec
        self._recogniser = recogniser
        self._fingerprint = codec.fingerprint()
        if recogniser.codec_fingerprint != self._fingerprint:
            raise CodecMismatchError(
                f"the adapter reads codec {recogniser.codec_fingerprint.hex()}, the codec is "
                f"{self._fingerprint.hex()}. Use --codec and --adapter of one training."
            )
        self._num_quantizers: int | None = None
        self._bit_price = 0.0
        if name != CONTINUOUS:
            point = point_of(name, codec)
            self._num_quantizers, self._bit_price = point.num_quantizers, point.bit_price
        self.prior = bundled_prior(self._fingerprint) if prior is None else prior

    def rates(self) -> Rates | None:
        config = self._codec.config
        return Rates(
            self.prior, self.chunk_frames, config.hop_length, math.log2(config.codebook_size),
            config.variable_depth,
        )  # fmt: skip

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        started = time.perf_counter()
        if self.name == CONTINUOUS:
            latents = [encode_latents(self._codec, clip) for clip in clips]
            encoded = time.perf_counter()
            texts = self._recogniser.transcribe_latents(latents, batch_size)
            return Heard(texts, time.perf_counter() - encoded, None, encoded - started)
        codes = [self._encode(clip) for clip in clips]
        encoded = time.perf_counter()
        streams = [self._write(c, len(clip)) for c, clip in zip(codes, clips, strict=True)]
        read = [self._receive(data) for data in streams]
        received = time.perf_counter()
        texts = self._recogniser.transcribe_streams(read, batch_size)
        size = [len(data) for data in streams]
        asr_s = time.perf_counter() - received
        return Heard(texts, asr_s, size, encoded - started, received - encoded, codes)

    def speech(self, codes: np.ndarray) -> np.ndarray | None:
        return self._recogniser.speech_probability(codes) > 0.5

    def sound(self, clip: np.ndarray) -> np.ndarray | None:
        return None if self.name == CONTINUOUS else self.through(clip)[1]

    def through(self, clip: np.ndarray) -> tuple[int, np.ndarray]:
        """(samples,) -> bytes of its stream, and the (samples,) that are decoded from it."""
        data = self._write(self._encode(clip), len(clip))
        return len(data), decode(self._receive(data), codec=self._codec)

    def _encode(self, clip: np.ndarray) -> np.ndarray:
        return encode_audio(self._codec, clip, self._num_quantizers, self._bit_price, self.prior)

    def _write(self, codes: np.ndarray, samples: int) -> bytes:
        return stream_of(
            self._codec, codes, samples, chunk_frames=self.chunk_frames, prior=self.prior
        ).to_bytes()

    def _receive(self, data: bytes) -> Stream:
        if not self._loss:
            return Stream.load(data, prior=self.prior)
        data = drop_chunks(data, self._loss, self._rng, self.prior)
        return Stream.load(data, prior=self.prior, partial=True)


class KMeansSystem(System):
    """Centres of Whisper's encoder states to its decoder; see `KMeansTokens`.

    Args:
        name: "kmeans:FILE".
        recogniser: a Whisper.

    Raises:
        RecogniserError: the file was not made for it.
    """

    def __init__(self, name: str, recogniser: Recogniser):
        self.name = name
        if not isinstance(recogniser, WhisperRecogniser):
            raise VqasrError(f"{name}: only a Whisper (--asr tiny.en) has states to be clustered.")
        self._tokens = KMeansTokens.load(name.removeprefix(KMEANS), recogniser.recogniser)

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        texts, size, encode_s, asr_s = self._tokens.hear(clips)
        return Heard(texts, asr_s, size, encode_s)


def point_of(name: str, codec: VQCodecModel) -> OperatingPoint:
    """Return the operating point of "vqasr:N" or "vqasr:Rbps".

    Raises:
        VqasrError: no such system.
    """
    prefix, _, number = name.partition(":")
    rate = number.removesuffix("bps")
    if prefix != "vqasr" or not rate.isdigit():
        raise VqasrError(
            f"unknown system {name!r}; there are pcm, vqasr:N with N from 1 to "
            f"{codec.config.num_quantizers}, vqasr:all, vqasr:continuous, for codecs with "
            f"measured rates vqasr:Rbps, as in vqasr:300bps, the floors "
            f"{' and '.join(TEXT_FLOORS)}, and classical codecs: {', '.join(classical_names())}; "
            f"{NEURAL}CHECKPOINT@BPS; {RANDOM}TYPE@BPS; and {KMEANS}FILE."
        )
    if rate != number:
        return operating_point(codec.config, bps=float(rate))
    return operating_point(codec.config, num_quantizers=int(number))
