"""The systems that `vqasr evaluate` compares: what is heard, what it costs, and its text."""

import math
import time
from dataclasses import dataclass

import numpy as np

from vqasr.adapters.reader import CodesReader
from vqasr.code_prior import CodePrior
from vqasr.encoding import codes_to_stream, encode_audio, encode_latents
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.packet_loss import drop_chunks
from vqasr.priors import bundled_prior
from vqasr.rates import Rates
from vqasr.stream import DEFAULT_CHUNK_FRAMES, Stream, stream_from_bytes

PCM_BITS_PER_SAMPLE = 16
WITHOUT_CODES = ("pcm", "vqasr:continuous")
LOSS = "+loss"


@dataclass
class Heard:
    """What a system makes of some clips.

    Attributes:
        texts: one per clip.
        asr_s: seconds of computing, from codes, latents or audio to text, for all clips together.
        stream_bytes: size of each clip's stream; None where nothing is transmitted as bytes.
        encode_s: audio to codes; None without a codec.
        coding_s: codes to bytes and bytes to codes; None without bytes.
        codes: (n, frames) of each clip; None without any.
    """

    texts: list[str]
    asr_s: float
    stream_bytes: list[int] | None = None
    encode_s: float | None = None
    coding_s: float | None = None
    codes: list[np.ndarray] | None = None


class System:
    """One way from audio to text.

    Args:
        name: "pcm", "vqasr:N", "vqasr:Rbps", either with "+lossP", or "vqasr:continuous".
        codec: the codec.
        recogniser: with the adapter that belongs to the codec.
        prior: range-codes the streams; None for the one that ships for the codec.
        chunk_frames: frames in a chunk of the streams.
        seed: of the chunks that are lost.

    Raises:
        VqasrError: no such system.
        CodecMismatchError: the adapter belongs to another codec.
    """

    def __init__(
        self,
        name: str,
        codec: VQCodecModel,
        recogniser: CodesReader,
        prior: CodePrior | None = None,
        chunk_frames: int = DEFAULT_CHUNK_FRAMES,
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
        if name != "pcm" and recogniser.codec_fingerprint != self._fingerprint:
            raise CodecMismatchError(
                f"the adapter reads codec {recogniser.codec_fingerprint.hex()}, the codec is "
                f"{self._fingerprint.hex()}. Use --codec and --adapter of one training."
            )
        self._num_quantizers: int | None = None
        self._tolerance = 0.0
        if name not in WITHOUT_CODES:
            self._num_quantizers, self._tolerance = _operating_point(name, codec)
        self.prior = bundled_prior(self._fingerprint) if prior is None else prior

    def rates(self) -> Rates:
        """Counts what this system's codes cost."""
        config = self._codec.config
        return Rates(
            self.prior, self.chunk_frames, config.hop_length, math.log2(config.codebook_size),
            config.variable_depth,
        )  # fmt: skip

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        """Transcribe (samples,) float32 clips at 16 kHz, timing each part."""
        if self.name == "pcm":
            started = time.perf_counter()
            texts = self._recogniser.transcribe_audio(clips)
            size = [len(clip) * PCM_BITS_PER_SAMPLE // 8 for clip in clips]
            return Heard(texts, time.perf_counter() - started, size)
        started = time.perf_counter()
        if self.name == "vqasr:continuous":
            latents = [encode_latents(self._codec, clip) for clip in clips]
            encoded = time.perf_counter()
            texts = self._recogniser.transcribe_latents(latents, batch_size)
            return Heard(texts, time.perf_counter() - encoded, None, encoded - started)
        codes = [
            encode_audio(self._codec, clip, self._num_quantizers, self._tolerance) for clip in clips
        ]
        encoded = time.perf_counter()
        streams = [
            codes_to_stream(
                c, len(clip), self._codec.config, self._fingerprint, self.prior, self.chunk_frames
            )
            for c, clip in zip(codes, clips, strict=True)
        ]
        read = [self._receive(data) for data in streams]
        received = time.perf_counter()
        texts = self._recogniser.transcribe_streams(read, batch_size)
        size = [len(data) for data in streams]
        asr_s = time.perf_counter() - received
        return Heard(texts, asr_s, size, encoded - started, received - encoded, codes)

    def speech(self, codes: np.ndarray) -> np.ndarray:
        """(n, frames) codes -> (frames,) bool: where the adapter hears somebody speak."""
        return self._recogniser.speech_probability(codes) > 0.5

    def _receive(self, data: bytes) -> Stream:
        if not self._loss:
            return stream_from_bytes(data, prior=self.prior)
        data = drop_chunks(data, self._loss, self._rng, self.prior)
        return stream_from_bytes(data, prior=self.prior, partial=True)


def expand_systems(names: str, codec: VQCodecModel) -> list[str]:
    """ "pcm,vqasr:all" -> ["pcm", "vqasr:1", ...]; VqasrError for a name that does not exist."""
    expanded: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        if name == "vqasr:all":
            expanded += [f"vqasr:{n + 1}" for n in range(codec.config.num_quantizers)]
        elif name:
            if name not in WITHOUT_CODES:
                _operating_point(name, codec)
            expanded.append(name)
    if not expanded:
        raise VqasrError("no system was named; for instance pcm,vqasr:1,vqasr:4.")
    return list(dict.fromkeys(expanded))


def with_losses(names: list[str], losses_percent: list[float]) -> list[str]:
    """Each "vqasr:..." once for each share of chunks lost; the other systems as they are."""
    for loss in losses_percent:
        if not 0 <= loss <= 100:
            raise VqasrError(f"a loss of {loss} % of the chunks; 0 to 100 are possible.")
    expanded: list[str] = []
    for name in names:
        if name in WITHOUT_CODES or not losses_percent:
            expanded.append(name)
        else:
            expanded += [f"{name}{LOSS}{loss:g}" for loss in losses_percent]
    return expanded


def _operating_point(name: str, codec: VQCodecModel) -> tuple[int, float]:
    """Number of codebooks and tolerance of "vqasr:N" or "vqasr:Rbps"."""
    prefix, _, number = name.partition(":")
    rate = number.removesuffix("bps")
    if prefix != "vqasr" or not rate.isdigit():
        raise VqasrError(
            f"unknown system {name!r}; there are pcm, vqasr:N with N from 1 to "
            f"{codec.config.num_quantizers}, vqasr:all, vqasr:continuous, and for codecs with "
            "variable depth vqasr:Rbps, as in vqasr:300bps."
        )
    if rate != number:
        return codec.config.operating_point(float(rate))
    return codec.check_num_quantizers(int(number)), 0.0
