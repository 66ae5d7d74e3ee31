"""The systems that `vqasr evaluate` compares: each turns audio into text at some bitrate."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.audio.pitch_tracker import track_codes
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import LiveVocoder, Vocoder, load_vocoder
from vqasr.compression.compress import (
    LiveDecoder,
    decode,
    encode_audio,
    encode_latents,
    stream_of,
)
from vqasr.compression.rates import OperatingPoint, operating_point
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CodecError, CodecMismatchError, VqasrError
from vqasr.evaluation.classical import classical_names
from vqasr.evaluation.kmeans import KMeansTokens
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.neural import RANDOM
from vqasr.evaluation.packet_loss import ChunkLoss, drop_chunks
from vqasr.evaluation.text_floor import TEXT_FLOORS
from vqasr.stream.rates import Rates
from vqasr.stream.stream import Stream

PCM_BYTES_PER_SAMPLE = 2
CONTINUOUS = "vqasr:continuous"
LOSS = "+loss"
PITCH = "+pitch"  # streams with the fundamental frequency
GREEDY = "+greedy"  # without the recogniser's language model
KMEANS = "kmeans:"
AudioCodec = Callable[[np.ndarray], tuple[int, np.ndarray]]


@dataclass
class SystemOutput:
    """Texts, bytes and times of some clips.

    Attributes:
        texts: one per clip; empty without a recogniser.
        asr_s: seconds from codes, latents or audio to text, for all clips together.
        stream_bytes: bytes of each clip's stream; None if nothing is coded.
        encode_s: seconds from audio to codes (classical and neural codecs: to packets and back to
            audio); None without a codec.
        coding_s: seconds from codes to bytes and back; None without codes.
        codes: (n, frames) of each clip; None without codes.
    """

    texts: list[str]
    asr_s: float
    stream_bytes: list[int] | None = None
    encode_s: float | None = None
    coding_s: float | None = None
    codes: list[np.ndarray] | None = None


class System(ABC):
    """A way from audio to text.

    Attributes:
        name: as `make_system` takes it.
    """

    name: str

    @abstractmethod
    def run(self, clips: list[np.ndarray], batch_size: int) -> SystemOutput:
        """Transcribe (samples,) float32 clips at 16 kHz, timing each part."""

    def rates(self) -> Rates | None:
        """Return a new counter of the codes' bits; None without codes."""
        return None

    def speech(self, codes: np.ndarray) -> np.ndarray | None:
        """Detect speech: (n, frames) codes -> (frames,) bool; None if unknown."""
        return None

    def decode(self, clip: np.ndarray) -> np.ndarray | None:
        """Encode and decode (samples,); None if the system makes no audio."""
        return None


class AudioSystem(System):
    """Transcribe audio, uncompressed or decoded by a codec.

    Args:
        name: of the system.
        recogniser: reads the audio; None to measure bytes and time of the codec alone.
        codec: (samples,) -> bytes and decoded (samples,); None for uncompressed audio.
        gate: finds clips without speech, which have no text, as they have none from its codes;
            None for transcribing all.
    """

    def __init__(
        self,
        name: str,
        recogniser: Recogniser | None,
        codec: AudioCodec | None = None,
        gate: VQCodecModel | None = None,
    ):
        self.name = name
        self._recogniser = recogniser
        self._codec = codec
        self._gate = gate

    def run(self, clips: list[np.ndarray], batch_size: int) -> SystemOutput:
        started = time.perf_counter()
        sizes, audio, encode_s = [PCM_BYTES_PER_SAMPLE * len(clip) for clip in clips], clips, None
        if self._codec is not None:
            coded = [self._codec(clip) for clip in clips]
            sizes, audio = [size for size, _ in coded], [decoded for _, decoded in coded]
            encode_s = time.perf_counter() - started
            started = time.perf_counter()
        if self._recogniser is None:
            return SystemOutput([], 0.0, sizes, encode_s)
        texts = self._recogniser.transcribe_audio(audio)
        asr_s = time.perf_counter() - started
        if self._gate is not None:
            texts = uninvented(texts, clips, self._recogniser, self._gate)
        return SystemOutput(texts, asr_s, sizes, encode_s)

    def decode(self, clip: np.ndarray) -> np.ndarray | None:
        if self._recogniser is None:
            return None
        return clip if self._codec is None else self._codec(clip)[1]


def uninvented(
    texts: list[str], clips: list[np.ndarray], recogniser: Recogniser, codec: VQCodecModel
) -> list[str]:
    """Empty the texts of (samples,) clips without speech: Whisper writes "you" for silence."""
    return [
        text if recogniser.holds_speech(encode_latents(codec, clip)) else ""
        for text, clip in zip(texts, clips, strict=True)
    ]


class CodesSystem(System):
    """Transcribe vqasr's codes, sent as streams, or its unquantized latents.

    Args:
        name: "vqasr:N" or "vqasr:Rbps" or "vqasr:continuous", also with "+pitch",
            "+greedy" and "+lossP".
        codec: in evaluation mode.
        recogniser: with an adapter for the codec.
        prior: codes the streams; None for the one that ships for the codec.
        chunk_frames: frames per chunk; None as in `stream_of`.
        seed: of the lost chunks.
        vocoder: decodes to audio, see `decode`.

    Raises:
        VqasrError: there is no such system.
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
        vocoder: str | Vocoder | None = None,
    ):
        fingerprint = codec.fingerprint()
        if recogniser.codec_fingerprint != fingerprint:
            raise CodecMismatchError(
                f"the adapter reads codec {recogniser.codec_fingerprint.hex()}, but the codec is "
                f"{fingerprint.hex()}. Use --codec and --adapter from the same training."
            )
        self.name = name
        self.chunk_frames = chunk_frames
        self.prior = bundled_prior(fingerprint) if prior is None else prior
        self._codec, self._vocoder = codec, vocoder
        rate, _, loss = name.partition(LOSS)
        if rate.endswith(GREEDY) and isinstance(recogniser, CTCRecogniser):
            recogniser, rate = recogniser.greedy(), rate.removesuffix(GREEDY)
        self._pitch = rate.endswith(PITCH)
        rate = rate.removesuffix(PITCH)
        self._recogniser = recogniser
        self._loss = ChunkLoss.parse(loss or "0")
        self._rng = np.random.default_rng(seed)
        self._point = None if rate == CONTINUOUS else point_of(rate, codec)

    def rates(self) -> Rates | None:
        if self._point is None:
            return None
        config = self._codec.config
        return Rates(
            self.prior, self.chunk_frames, config.hop_length, math.log2(config.codebook_size),
            config.variable_depth,
        )  # fmt: skip

    def run(self, clips: list[np.ndarray], batch_size: int) -> SystemOutput:
        started = time.perf_counter()
        if self._point is None:
            latents = [encode_latents(self._codec, clip) for clip in clips]
            encoded = time.perf_counter()
            texts = self._recogniser.transcribe_latents(latents, batch_size)
            return SystemOutput(texts, time.perf_counter() - encoded, None, encoded - started)
        codes = [self._encode(clip, self._point) for clip in clips]
        encoded = time.perf_counter()
        streams = [self._to_bytes(c, clip) for c, clip in zip(codes, clips, strict=True)]
        received = [self._receive(data) for data in streams]
        coded = time.perf_counter()
        texts = self._recogniser.transcribe_streams(received, batch_size)
        sizes = [len(data) for data in streams]
        asr_s = time.perf_counter() - coded
        return SystemOutput(texts, asr_s, sizes, encoded - started, coded - encoded, codes)

    def speech(self, codes: np.ndarray) -> np.ndarray | None:
        return self._recogniser.speech_probability(codes) > 0.5

    def decode(self, clip: np.ndarray) -> np.ndarray | None:
        return None if self._point is None else self.round_trip(clip)[1]

    def check_vocoder(self) -> None:
        """Check that codes or latents can be decoded, before any work.

        Raises:
            CodecError: the vocoder cannot be loaded, or latents need a trained one.
            CodecMismatchError: it is another codec's.
        """
        vocoder = load_vocoder(self._vocoder, self._codec.fingerprint())
        if vocoder is not None:
            LiveDecoder(self._codec, vocoder)
        elif self._point is None:
            raise CodecError(
                f"{CONTINUOUS} is decoded by a trained vocoder alone. Give one with --vocoder."
            )

    def round_trip(self, clip: np.ndarray) -> tuple[int, np.ndarray]:
        """Return bytes of the stream and decoded (samples,) of a (samples,) clip.

        Latents are no stream: they count as the float32 that they are.
        """
        if self._point is None:
            vocoder = load_vocoder(self._vocoder, self._codec.fingerprint())
            assert vocoder is not None, "see check_vocoder"
            latents = encode_latents(self._codec, clip)
            pitch = track_codes(clip) if self._pitch else None
            size = latents.numel() * latents.element_size()
            live = LiveVocoder(vocoder.eval())  # at its best
            contour = None if pitch is None else torch.from_numpy(pitch)
            pieces = [live.push(latents, None, contour), live.finish()]
            return size, torch.cat(pieces).numpy()[: len(clip)]
        data = self._to_bytes(self._encode(clip, self._point), clip)
        audio = decode(self._receive(data), codec=self._codec, vocoder=self._vocoder)
        if self._loss.percent:  # a lost end is silent, and does not tell its length
            audio = np.pad(audio, (0, max(0, len(clip) - len(audio))))[: len(clip)]
        return len(data), audio

    def _encode(self, clip: np.ndarray, point: OperatingPoint) -> np.ndarray:
        return encode_audio(self._codec, clip, point.num_quantizers, point.bit_price, self.prior)

    def _to_bytes(self, codes: np.ndarray, clip: np.ndarray) -> bytes:
        return stream_of(
            self._codec, codes, len(clip), chunk_frames=self.chunk_frames, prior=self.prior,
            pitch=track_codes(clip) if self._pitch else None,
        ).to_bytes()  # fmt: skip

    def _receive(self, data: bytes) -> Stream:
        if not self._loss.percent:
            return Stream.load(data, prior=self.prior)
        data = drop_chunks(data, self._loss, self._rng, self.prior)
        return Stream.load(data, prior=self.prior, partial=True)


class KMeansSystem(System):
    """Transcribe centres of Whisper's encoder states, see `KMeansTokens`.

    Args:
        name: "kmeans:FILE".
        recogniser: a Whisper.

    Raises:
        VqasrError: the recogniser is not a Whisper.
        RecogniserError: the file was fitted to another Whisper.
    """

    def __init__(self, name: str, recogniser: Recogniser):
        self.name = name
        if not isinstance(recogniser, WhisperRecogniser):
            raise VqasrError(f"{name}: only a Whisper has encoder states. Use --asr tiny.en.")
        self._tokens = KMeansTokens.load(name.removeprefix(KMEANS), recogniser.whisper)

    def run(self, clips: list[np.ndarray], batch_size: int) -> SystemOutput:
        texts, sizes, encode_s, asr_s = self._tokens.transcribe(clips)
        return SystemOutput(texts, asr_s, sizes, encode_s)


def point_of(name: str, codec: VQCodecModel) -> OperatingPoint:
    """Return the operating point of "vqasr:N" or "vqasr:Rbps".

    Raises:
        VqasrError: there is no such system.
    """
    prefix, _, number = name.partition(":")
    rate = number.removesuffix("bps")
    if prefix != "vqasr" or not rate.isdecimal():
        raise VqasrError(
            f"unknown system {name!r}. Use pcm; vqasr:N with N from 1 to "
            f"{codec.config.num_quantizers}; vqasr:all; vqasr:continuous; vqasr:Rbps for codecs "
            f"with calibrated rates, as in vqasr:300bps; each with :audio or +pitch:audio; "
            f"{' or '.join(TEXT_FLOORS)}; a classical codec ({', '.join(classical_names())}); "
            f"{NEURAL}CHECKPOINT@BPS; {RANDOM}TYPE@BPS; or {KMEANS}FILE."
        )
    if rate != number:
        return operating_point(codec.config, bps=float(rate))
    if int(number) > codec.config.num_quantizers:
        raise VqasrError(
            f"{name}: there are {codec.config.num_quantizers} codebooks. For a bitrate: {name}bps."
        )
    return operating_point(codec.config, num_quantizers=int(number))
