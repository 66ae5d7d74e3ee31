"""The short way: audio -> codes -> bytes, and bytes -> audio."""

import numpy as np
import torch
from torch import Tensor

from vqasr.audio import check_samples
from vqasr.configuration_vqcodec import VQCodecConfig
from vqasr.errors import CodecMismatchError
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.quantizer import bits_per_code
from vqasr.stream import Stream, StreamHeader, stream_from_bytes, stream_to_bytes

# Long recordings pass through in pieces, so that memory does not grow with them.
PIECE_SAMPLES = 60 * 16_000


def encode_audio(
    codec: VQCodecModel, samples: np.ndarray, num_quantizers: int | None = None
) -> np.ndarray:
    """(samples,) float32 at 16 kHz -> codes (num_quantizers, frames) int64.

    Raises:
        AudioError: empty, NaN or infinite samples, several channels.
        InvalidCodesError: `num_quantizers` is out of range.
    """
    check_samples(samples)
    encoder = codec.streaming(num_quantizers)
    pieces = [
        encoder.push(samples[i : i + PIECE_SAMPLES]) for i in range(0, len(samples), PIECE_SAMPLES)
    ]
    return torch.cat([*pieces, encoder.finish()], dim=1).numpy()


def encode_latents(codec: VQCodecModel, samples: np.ndarray) -> Tensor:
    """(samples,) float32 at 16 kHz -> unquantized latents (frames, latent_dim)."""
    check_samples(samples)
    with torch.no_grad():
        return codec.encode_latents(torch.from_numpy(samples)[None])[0][0]


def stream_header(codec: VQCodecModel, num_quantizers: int) -> StreamHeader:
    """Header of streams that this codec writes."""
    return StreamHeader(
        fingerprint=codec.fingerprint(),
        num_quantizers=num_quantizers,
        bits_per_code=bits_per_code(codec.config.codebook_size),
        hop_length=codec.config.hop_length,
    )


def audio_to_stream(
    codec: VQCodecModel, samples: np.ndarray, num_quantizers: int | None = None
) -> bytes:
    """(samples,) float32 at 16 kHz -> the bytes of a `.vqs` stream; errors as `encode_audio`."""
    codes = encode_audio(codec, samples, num_quantizers)
    return codes_to_stream(codes, len(samples), codec.config, codec.fingerprint())


def codes_to_stream(
    codes: np.ndarray, samples: int, config: VQCodecConfig, fingerprint: bytes
) -> bytes:
    """(n, frames) codes of `samples` samples -> the bytes of a `.vqs` stream.

    Raises:
        StreamError, InvalidCodesError: codes and samples do not belong together.
    """
    return stream_to_bytes(
        codes,
        samples=samples,
        fingerprint=fingerprint,
        bits_per_code=bits_per_code(config.codebook_size),
        hop_length=config.hop_length,
    )


def check_codec(stream: Stream, fingerprint: bytes) -> None:
    """Raise CodecMismatchError unless the stream was written by the codec of that fingerprint."""
    if stream.header.fingerprint != fingerprint:
        raise CodecMismatchError(
            f"the stream was written by codec {stream.header.fingerprint.hex()}, not by "
            f"{fingerprint.hex()}. Use the codec, or the adapter for the codec, that wrote it."
        )


def stream_to_audio(codec: VQCodecModel, stream: bytes | Stream) -> np.ndarray:
    """A `.vqs` stream -> (samples,) float32 at 16 kHz.

    Raises:
        StreamError: damaged, truncated, or written by another codec.
    """
    if isinstance(stream, bytes):
        stream = stream_from_bytes(stream)
    check_codec(stream, codec.fingerprint())
    with torch.no_grad():
        codes = torch.from_numpy(stream.codes)[None]
        audio = codec.decode(codes, samples=stream.samples).audio_values
    assert audio is not None  # for the type checker; decode always sets it
    return audio[0, 0].numpy()
