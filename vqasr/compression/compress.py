"""Audio to codes and streams, and back to audio."""

import os
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vqasr.assets import BUNDLED_CODECS
from vqasr.audio.arrays import to_mono
from vqasr.audio.pitch_tracker import track_codes
from vqasr.audio.sources import Sound, load_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.quantizer import bits_per_code
from vqasr.codec.streaming import LatentEncoder
from vqasr.codec.vocoder import GRIFFIN_LIM, LiveVocoder, Vocoder, load_vocoder
from vqasr.compression.choice import CodeChoice
from vqasr.compression.rates import OperatingPoint, operating_point
from vqasr.entropy.packing import check_codes
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CodecError, CodecMismatchError
from vqasr.grid import FRAME_RATE_HZ, MISSING, NO_FRAME, SAMPLING_RATE_HZ
from vqasr.stream.chunk import check_chunk_size
from vqasr.stream.header import (
    CODEC_BYTES,
    DEFAULT_CHUNK_FRAMES,
    StreamHeader,
    usual_chunk_frames,
)
from vqasr.stream.stream import Source, Stream

# Long recordings are encoded in pieces, so that memory does not grow with their length.
PIECE_SAMPLES = 60 * SAMPLING_RATE_HZ
PIECE_FRAMES = 60 * FRAME_RATE_HZ


class LiveEncoder:
    """Encode one clip while its audio comes in.

    A frame's codes are returned as soon as its own 40 ms and the codec's look-ahead have come in.
    They equal those of `encode_audio` on the whole clip, for any chunking.

    Example:
        >>> encoder = LiveEncoder(codec, num_quantizers=4)
        >>> codes = [encoder.push(chunk) for chunk in chunks] + [encoder.finish()]

    Args:
        codec: in evaluation mode.
        num_quantizers, bps: the rate, see `operating_point`.
        point: instead of both.
        prior: estimates bits; None for the one that ships for the codec.

    Raises:
        InvalidCodesError: the rate is out of range, or no prior is available to estimate bits.
    """

    def __init__(
        self,
        codec: VQCodecModel,
        *,
        num_quantizers: int | None = None,
        bps: float | None = None,
        point: OperatingPoint | None = None,
        prior: CodePrior | None = None,
    ):
        if point is None:
            point = operating_point(codec.config, num_quantizers=num_quantizers, bps=bps)
        self.num_quantizers = point.num_quantizers
        self._choice = CodeChoice(codec, point.num_quantizers, point.bit_price, prior)
        self._latents = LatentEncoder(codec)

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return self._latents.samples

    def push(self, chunk: np.ndarray | Tensor) -> np.ndarray:
        """Add (samples,) float at 16 kHz; returns the (num_quantizers, frames) that are complete.

        Raises:
            AudioError: see `LatentEncoder.push`.
        """
        return self._choice.choose(self._latents.push(chunk)).numpy()

    def finish(self) -> np.ndarray:
        """End the clip; returns the (num_quantizers, frames) that lacked look-ahead until now."""
        return self._choice.choose(self._latents.finish()).numpy()


def compress(
    audio: Sound,
    *,
    codec: str | os.PathLike[str] | VQCodecModel = "vqasr-base",
    num_quantizers: int | None = None,
    bps: float | None = None,
    sampling_rate: int | None = None,
    chunk_frames: int | None = None,
    prior: CodePrior | None = None,
    pitch: bool = False,
) -> Stream:
    """Compress audio to a stream.

    Args:
        audio: path, bytes, array, tensor or dictionary, as `load_audio` takes them.
        codec: loaded, or its name, folder or hub id.
        num_quantizers, bps: the rate, see `operating_point`.
        sampling_rate: of arrays and tensors in Hz; None for 16,000.
        chunk_frames: see `stream_of`.
        prior: estimates bits and codes the stream; None for the one that ships for the codec.
        pitch: add the fundamental frequency, some 75 bit/s beside `bps`: decoded audio has the
            speaker's melody. Recognisers do not read it.

    Raises:
        AudioError: the audio cannot be read.
        InvalidCodesError: the rate is out of range.
        StreamError: chunks of this length could be too large for the format.
        CodecError: the codec cannot be loaded.
    """
    model = kept_codec(codec)
    point = operating_point(model.config, num_quantizers=num_quantizers, bps=bps)
    samples = load_audio(audio, sampling_rate)
    length = chunk_frames or usual_chunk_frames(model.config.frames(len(samples)))
    check_chunk_size(stream_header(model, point.num_quantizers, length, pitch))  # before any work
    codes = encode_audio(model, samples, point.num_quantizers, point.bit_price, prior)
    tracked = track_codes(samples) if pitch else None
    return stream_of(
        model, codes, len(samples), chunk_frames=chunk_frames, prior=prior, pitch=tracked
    )


def encode_audio(
    codec: VQCodecModel,
    samples: np.ndarray,
    num_quantizers: int | None = None,
    bit_price: float = 0.0,
    prior: CodePrior | None = None,
) -> np.ndarray:
    """Encode samples at 16 kHz, as `to_mono` takes them, to codes (num_quantizers, frames) int64.

    num_quantizers and bit_price as in `OperatingPoint`, prior as in `LiveEncoder`.

    Raises:
        AudioError: see `to_mono`.
        InvalidCodesError: see `LiveEncoder`.
    """
    samples = to_mono(samples)
    point = OperatingPoint(codec.config.check_num_quantizers(num_quantizers), bit_price)
    encoder = LiveEncoder(codec, point=point, prior=prior)
    pieces = [
        encoder.push(samples[i : i + PIECE_SAMPLES]) for i in range(0, len(samples), PIECE_SAMPLES)
    ]
    return np.concatenate([*pieces, encoder.finish()], axis=1)


def encode_latents(codec: VQCodecModel, samples: np.ndarray) -> Tensor:
    """Encode samples at 16 kHz, as `to_mono` takes them, to unquantized (frames, latent_dim)."""
    with torch.no_grad():
        return codec.encode_latents(torch.from_numpy(to_mono(samples))[None])[0][0]


def stream_header(
    codec: VQCodecModel,
    num_quantizers: int,
    chunk_frames: int = DEFAULT_CHUNK_FRAMES,
    pitch: bool = False,
) -> StreamHeader:
    """Make the header of streams of this codec."""
    return StreamHeader(
        codec.fingerprint()[:CODEC_BYTES], num_quantizers,
        bits_per_code(codec.config.codebook_size), codec.config.hop_length, chunk_frames,
        pitch=pitch,
    )  # fmt: skip


def stream_of(
    codec: VQCodecModel,
    codes: np.ndarray,
    samples: int,
    *,
    chunk_frames: int | None = None,
    prior: CodePrior | None = None,
    pitch: np.ndarray | None = None,
) -> Stream:
    """Put codes into a stream.

    Args:
        codec: that made them.
        codes: (num_quantizers, frames).
        samples: length of the audio.
        chunk_frames: frames in a chunk, the largest part that one loss costs; None for one chunk
            below 30 s and chunks of 10 s otherwise.
        prior: codes the stream; None for the one that ships for the codec, if one does.
        pitch: (frames,) codes of the fundamental frequency, see `PitchTracker`.
    """
    chunk_frames = chunk_frames or usual_chunk_frames(codes.shape[1])
    header = stream_header(codec, len(codes), chunk_frames, pitch is not None)
    return Stream(header, codes, samples, prior=prior, pitch=pitch)


def check_sizes(header: StreamHeader, codec: VQCodecModel) -> None:
    """Raise CodecMismatchError unless a header has the sizes of the codec that it names."""
    most = min(header.num_quantizers, codec.config.num_quantizers)
    own = stream_header(codec, most)
    for name in ("bits_per_code", "hop_length", "num_quantizers"):
        if getattr(header, name) != getattr(own, name):
            raise CodecMismatchError(
                f"the stream has {name}={getattr(header, name)}, its codec "
                f"{header.fingerprint.hex()} {getattr(own, name)}: it is damaged or forged."
            )


def decode(
    stream: Stream | Source,
    *,
    codec: str | os.PathLike[str] | VQCodecModel = "vqasr-base",
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
) -> np.ndarray:
    """Decode a stream to (samples,) float32 at 16 kHz.

    Args:
        stream: the stream, or path, bytes or binary file of one.
        codec: the one that wrote it: loaded, or its name, folder or hub id.
        vocoder: trained for that codec: loaded, or its name, folder or hub id; it guesses lost
            frames. "griffin-lim" is another method, for any codec; lost frames are silent. None for
            the vocoder that ships for the codec, if one does, and Griffin-Lim otherwise.

    Raises:
        CodecMismatchError: it was written by another codec, or the vocoder is another codec's.
        CodecError: codec or vocoder cannot be loaded.
        StreamError: the stream cannot be read.
    """
    if not isinstance(stream, Stream):
        stream = Stream.load(stream)
    codec = kept_codec(codec)
    stream.header.check_codec(codec.fingerprint())
    check_sizes(stream.header, codec)
    loaded = load_vocoder(vocoder, codec.fingerprint())
    if loaded is None:
        lost = stream.codes[0] == MISSING
        codes = np.where(lost, NO_FRAME, stream.codes)
        with torch.no_grad():
            audio = codec.decode(torch.from_numpy(codes)[None], samples=stream.samples).audio_values
        assert audio is not None  # for the type checker; decode always sets it
        samples: np.ndarray = audio[0, 0].numpy()
        samples[np.repeat(lost, codec.config.hop_length)[: len(samples)]] = 0.0
        return samples
    decoder = LiveDecoder(codec, loaded)
    starts = range(0, stream.frames, PIECE_FRAMES)
    pieces = []
    for start in starts:
        place = slice(start, start + PIECE_FRAMES)
        pitch = None if stream.pitch is None else stream.pitch[place]
        pieces.append(decoder.push(stream.codes[:, place], pitch))
    return np.concatenate([*pieces, decoder.finish()])[: stream.samples]


class LiveDecoder:
    """Decode one stream piece by piece, as its codes come in, to the samples of `decode`.

    Args:
        codec: that wrote the codes, in evaluation mode.
        vocoder: trained for it, see `decode`.

    Attributes:
        lookahead_s: a frame's audio is complete when the codes of this many seconds more are in.

    Raises:
        CodecMismatchError: the vocoder is another codec's.
        CodecError: it cannot be loaded, or there is none.
    """

    def __init__(
        self, codec: VQCodecModel, vocoder: str | os.PathLike[str] | Vocoder | None = None
    ):
        loaded = load_vocoder(vocoder, codec.fingerprint())
        if loaded is None:
            raise CodecError(
                f"{GRIFFIN_LIM} cannot decode while codes come in. Give a vocoder that was trained "
                "for the codec (recipes/train_vocoder)."
            )
        own, fingerprint = loaded.config.codec_fingerprint, codec.fingerprint().hex()
        if own != fingerprint:
            raise CodecMismatchError(
                f"the vocoder was trained for codec {own}, this is {fingerprint}. Give the codec's "
                f"own vocoder, or {GRIFFIN_LIM}."
            )
        self.lookahead_s = loaded.config.lookahead_s
        self._codec, self._live = codec, LiveVocoder(loaded.eval())
        self._bits = bits_per_code(codec.config.codebook_size)
        self._finished = False

    def push(self, codes: np.ndarray, pitch: np.ndarray | None = None) -> np.ndarray:
        """Add (n, frames) int codes, -2 for lost frames; return the (samples,) complete by then.

        pitch: (frames,) codes of the fundamental frequency, with all pieces or with none.

        Raises:
            InvalidCodesError: codes are not the codec's.
            CodecError: the stream is finished.
        """
        self._check_open()
        check_codes(np.where(codes < 0, 0, codes), len(codes), self._bits)
        lost = torch.from_numpy(codes[0] == MISSING)
        frames = torch.from_numpy(np.where(lost, NO_FRAME, codes))
        latents = self._codec.quantizer.decode(frames[None])[0]
        melody = None if pitch is None else torch.from_numpy(pitch)
        return self._live.push(latents, lost, melody).numpy()

    def finish(self) -> np.ndarray:
        """End the stream; return the (samples,) that waited for look-ahead."""
        self._check_open()
        self._finished = True
        return self._live.finish().numpy()

    def _check_open(self) -> None:
        if self._finished:
            raise CodecError("this stream is finished; start a new decoder.")


def load_codec(codec: str | os.PathLike[str] | VQCodecModel) -> VQCodecModel:
    """Return the codec itself, or load it by name, folder or hub id; in evaluation mode."""
    if isinstance(codec, VQCodecModel):
        return codec
    return VQCodecModel.from_pretrained(codec).eval()


def kept_codec(codec: str | os.PathLike[str] | VQCodecModel) -> VQCodecModel:
    """Load as `load_codec`; one that ships stays loaded for the next call, not to be changed."""
    if isinstance(codec, VQCodecModel) or str(codec) not in BUNDLED_CODECS:
        return load_codec(codec)
    return _shipped(str(codec))


_shipped = lru_cache(maxsize=1)(load_codec)
