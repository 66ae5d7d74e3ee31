"""Configuration of the VQ codec."""

from typing import Any

from transformers import PretrainedConfig

from vqasr.errors import InvalidCodesError
from vqasr.grid import HOP_LENGTH, SAMPLING_RATE_HZ, frames_of

MAX_LOOKAHEAD_SAMPLES = 5120  # 320 ms


class VQCodecConfig(PretrainedConfig):
    """What defines a `VQCodecModel`.

    Args:
        num_quantizers: codebooks in the residual quantizer.
        codebook_size: entries in each codebook.
        latent_dim: width of the vectors that are quantized.
        hidden_size: width of the encoder.
        num_fine_layers: encoder blocks at 50 Hz.
        num_layers: encoder blocks at 25 Hz, one frame (40 ms) of look-ahead each.
        fine_expansion: widening inside the 50 Hz blocks.
        expansion: widening inside the 25 Hz blocks.
        kernel_size: of the blocks' depthwise convolutions, in frames.
        decoder_hidden_size: width of the log-mel decoder.
        num_decoder_layers: blocks of the log-mel decoder.
        base_dim: the first two codebooks describe so many dimensions of the latents only, the
            others all of them; None for all. See `ResidualVQ`.
        variable_depth: frames that are described well enough may stop at an early codebook.
        price_points: measured operating points, (coded bits per second, num_quantizers, bit_price)
            each, rates rising; see `vqasr.compression.rates.operating_point`.

    Raises:
        ValueError: the look-ahead of the layers exceeds 320 ms, or a size is not positive.
    """

    model_type = "vqasr_codec"

    def __init__(
        self,
        num_quantizers: int = 8,
        codebook_size: int = 1024,
        latent_dim: int = 64,
        hidden_size: int = 256,
        num_fine_layers: int = 2,
        num_layers: int = 5,
        fine_expansion: int = 2,
        expansion: int = 3,
        kernel_size: int = 7,
        decoder_hidden_size: int = 192,
        num_decoder_layers: int = 2,
        base_dim: int | None = None,
        variable_depth: bool = False,
        price_points: list[tuple[float, int, float]] | None = None,
        **kwargs: Any,
    ):
        sizes = {
            "num_quantizers": num_quantizers,
            "codebook_size": codebook_size,
            "latent_dim": latent_dim,
            "hidden_size": hidden_size,
            "decoder_hidden_size": decoder_hidden_size,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1.")
        if base_dim is not None and not 1 <= base_dim <= latent_dim:
            raise ValueError(f"base_dim={base_dim}: 1 to latent_dim={latent_dim} is possible.")
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.latent_dim = latent_dim
        self.hidden_size = hidden_size
        self.num_fine_layers = num_fine_layers
        self.num_layers = num_layers
        self.fine_expansion = fine_expansion
        self.expansion = expansion
        self.kernel_size = kernel_size
        self.decoder_hidden_size = decoder_hidden_size
        self.num_decoder_layers = num_decoder_layers
        self.base_dim = base_dim
        self.variable_depth = variable_depth
        self.price_points = [(float(r), int(n), float(p)) for r, n, p in price_points or []]
        # Not to be chosen, but written into config.json because users of a stream need them.
        for name in ("sampling_rate", "hop_length", "lookahead_samples"):
            kwargs.pop(name, None)
        self.sampling_rate = SAMPLING_RATE_HZ
        self.hop_length = HOP_LENGTH
        self.lookahead_samples = _lookahead_samples(num_fine_layers, num_layers)
        if self.lookahead_samples > MAX_LOOKAHEAD_SAMPLES:
            raise ValueError(
                f"num_layers={num_layers} and num_fine_layers={num_fine_layers} look "
                f"{self.lookahead_samples / 16:.1f} ms ahead; at most 320 ms are allowed. "
                "Use fewer layers."
            )
        super().__init__(**kwargs)

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sampling_rate / self.hop_length

    @property
    def codebook_sizes(self) -> list[int]:
        """Entries of each codebook, base first."""
        return [self.codebook_size] * self.num_quantizers

    def check_num_quantizers(self, num_quantizers: int | None) -> int:
        """Return the number itself, or all for None; InvalidCodesError when out of range."""
        if num_quantizers is None:
            return self.num_quantizers
        if not 1 <= num_quantizers <= self.num_quantizers:
            raise InvalidCodesError(
                f"num_quantizers={num_quantizers}: this codec has 1 to {self.num_quantizers} "
                "codebooks."
            )
        return num_quantizers

    def frames(self, samples: int) -> int:
        """Number of code frames of a clip: ceil(samples / hop_length)."""
        return frames_of(samples, self.hop_length)


def _lookahead_samples(num_fine_layers: int, num_layers: int) -> int:
    """Samples after the end of a frame's own 640 that its code depends on.

    Counted backwards from frame 0: each 25 Hz block needs one frame more; the stride-2 convolutions
    (kernel 4, one frame of past) reach 2 t + 2; each 50 Hz block and the stem need one frame more;
    mel frame i ends at sample 160 i + 199.
    """
    coarse = num_layers
    fine = 2 * coarse + 2 + num_fine_layers
    mel = 2 * fine + 2 + 1
    return 160 * mel + 199 - (HOP_LENGTH - 1)
