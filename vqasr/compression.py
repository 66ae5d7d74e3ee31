"""The short way: audio -> codes -> bytes, and bytes -> audio."""

import numpy as np
import torch
from torch import Tensor

from vqasr.audio.files import check_samples
from vqasr.codec.configuration import VQCodecConfig
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.quantizer import bits_per_code
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CodecMismatchError
from vqasr.stream.header import CODEC_BYTES, DEFAULT_CHUNK_FRAMES
from vqasr.stream.priors import bundled_prior
from vqasr.stream.whole import MISSING, Stream, StreamHeader, stream_from_bytes, stream_to_bytes

# Long recordings pass through in pieces, so that memory does not grow with them.
PIECE_SAMPLES = 60 * 16_000


def encode_audio(
    codec: VQCodecModel,
    samples: np.ndarray,
    num_quantizers: int | None = None,
    bit_price: float = 0.0,
    prior: CodePrior | None = None,
) -> np.ndarray:
    """(samples,) float32 at 16 kHz -> codes (num_quantizers, frames) int64.

    num_quantizers as in `VQCodecModel.encode`, the others as in `CodeChoice`.

    Raises:
        AudioError: empty, NaN or infinite samples, several channels.
        InvalidCodesError: `num_quantizers` or `bit_price` is out of range, or there is no prior to
            say what codes cost.
    """
    check_samples(samples)
    encoder = codec.streaming(num_quantizers, bit_price, prior)
    pieces = [
        encoder.push(samples[i : i + PIECE_SAMPLES]) for i in range(0, len(samples), PIECE_SAMPLES)
    ]
    return torch.cat([*pieces, encoder.finish()], dim=1).numpy()


def encode_latents(codec: VQCodecModel, samples: np.ndarray) -> Tensor:
    """(samples,) float32 at 16 kHz -> unquantized latents (frames, latent_dim)."""
    check_samples(samples)
    with torch.no_grad():
        return codec.encode_latents(torch.from_numpy(samples)[None])[0][0]


def stream_header(
    codec: VQCodecModel, num_quantizers: int, chunk_frames: int = DEFAULT_CHUNK_FRAMES
) -> StreamHeader:
    """Header of streams that this codec writes."""
    return StreamHeader(
        fingerprint=codec.fingerprint()[:CODEC_BYTES],
        num_quantizers=num_quantizers,
        bits_per_code=bits_per_code(codec.config.codebook_size),
        hop_length=codec.config.hop_length,
        chunk_frames=chunk_frames,
    )


def audio_to_stream(
    codec: VQCodecModel,
    samples: np.ndarray,
    num_quantizers: int | None = None,
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
    bit_price: float = 0.0,
) -> bytes:
    """(samples,) float32 at 16 kHz -> the bytes of a `.vqs` stream; errors as `encode_audio`.

    prior and chunk_frames as in `codes_to_stream`, bit_price as in `CodeChoice`.
    """
    codes = encode_audio(codec, samples, num_quantizers, bit_price, prior)
    return codes_to_stream(
        codes, len(samples), codec.config, codec.fingerprint(), prior, chunk_frames
    )


def codes_to_stream(
    codes: np.ndarray,
    samples: int,
    config: VQCodecConfig,
    fingerprint: bytes,
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
) -> bytes:
    """(n, frames) codes of `samples` samples -> the bytes of a `.vqs` stream.

    Args:
        prior: range-codes the stream; None for the one that ships for the codec, if one does.
        chunk_frames: frames in a chunk, the most that one loss costs; None as `stream_to_bytes`.

    Raises:
        StreamError, InvalidCodesError: codes, samples and prior do not belong together.
    """
    return stream_to_bytes(
        codes,
        samples=samples,
        fingerprint=fingerprint,
        bits_per_code=bits_per_code(config.codebook_size),
        hop_length=config.hop_length,
        chunk_frames=chunk_frames,
        prior=bundled_prior(fingerprint) if prior is None else prior,
    )


def check_codec(stream: Stream, fingerprint: bytes) -> None:
    """Raise CodecMismatchError unless the stream was written by the codec of that fingerprint."""
    if not stream.header.names_codec(fingerprint):
        raise CodecMismatchError(
            f"the stream was written by codec {stream.header.fingerprint.hex()}, not by "
            f"{fingerprint.hex()}. Use the codec, or the adapter for the codec, that wrote it."
        )


def stream_to_audio(codec: VQCodecModel, stream: bytes | Stream) -> np.ndarray:
    """A `.vqs` stream -> (samples,) float32 at 16 kHz, silent where frames were lost.

    Raises:
        StreamError: damaged, truncated, or written by another codec.
    """
    if isinstance(stream, bytes):
        stream = stream_from_bytes(stream)
    check_codec(stream, codec.fingerprint())
    lost = stream.codes[0] == MISSING
    codes = np.where(lost, -1, stream.codes)
    with torch.no_grad():
        audio = codec.decode(torch.from_numpy(codes)[None], samples=stream.samples).audio_values
    assert audio is not None  # for the type checker; decode always sets it
    samples = audio[0, 0].numpy()
    samples[np.repeat(lost, codec.config.hop_length)[: len(samples)]] = 0.0
    return samples
