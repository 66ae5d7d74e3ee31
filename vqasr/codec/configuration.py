"""Configuration of the VQ codec."""

from typing import Any

from transformers import PretrainedConfig

from vqasr.entropy.packing import check_num_quantizers
from vqasr.grid import HOP_LENGTH, SAMPLING_RATE_HZ, frames_of

MAX_LOOKAHEAD_SAMPLES = 5120  # 320 ms


class VQCodecConfig(PretrainedConfig):
    """Sizes and operating points of a `VQCodecModel`.

    Args:
        num_quantizers: codebooks in the residual quantizer.
        codebook_size: entries in each codebook.
        latent_dim: width of the latents that are quantized.
        hidden_size: width of the encoder.
        num_fine_layers: encoder blocks at 50 Hz.
        num_layers: encoder blocks at 25 Hz, one frame (40 ms) of look-ahead each.
        fine_expansion: expansion factor of the 50 Hz blocks.
        expansion: expansion factor of the 25 Hz blocks.
        kernel_size: of the blocks' depthwise convolutions, in frames.
        decoder_hidden_size: width of the log-mel decoder.
        num_decoder_layers: blocks of the log-mel decoder.
        base_dim: latent dimensions of the first two codebooks; None for all. See `ResidualVQ`.
        variable_depth: easy frames may use fewer codebooks.
        price_points: measured operating points (coded bits per second, num_quantizers, bit_price)
            in order of rate; see `vqasr.compression.rates.operating_point`.

    Attributes:
        sampling_rate, hop_length, lookahead_samples: derived; saved for users of a stream.

    Raises:
        ValueError: the look-ahead exceeds 320 ms, or a size is out of range.
    """

    model_type = "vqasr_codec"

    num_quantizers: int = 8
    codebook_size: int = 1024
    latent_dim: int = 64
    hidden_size: int = 256
    num_fine_layers: int = 2
    num_layers: int = 5
    fine_expansion: int = 2
    expansion: int = 3
    kernel_size: int = 7
    decoder_hidden_size: int = 192
    num_decoder_layers: int = 2
    base_dim: int | None = None
    variable_depth: bool = False
    price_points: list[tuple[float, int, float]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in (
            "num_quantizers", "codebook_size", "latent_dim", "hidden_size", "decoder_hidden_size",
        ):  # fmt: skip
            if (size := getattr(self, name)) < 1:
                raise ValueError(f"{name}={size}: must be at least 1.")
        if self.base_dim is not None and not 1 <= self.base_dim <= self.latent_dim:
            raise ValueError(
                f"base_dim={self.base_dim}: must be 1 to latent_dim={self.latent_dim}."
            )
        self.price_points = [(float(r), int(n), float(p)) for r, n, p in self.price_points or []]
        super().__post_init__(**kwargs)
        # After the keyword arguments: a saved configuration has them too, but cannot choose them.
        self.sampling_rate = SAMPLING_RATE_HZ
        self.hop_length = HOP_LENGTH
        self.lookahead_samples = _lookahead_samples(self.num_fine_layers, self.num_layers)
        if self.lookahead_samples > MAX_LOOKAHEAD_SAMPLES:
            raise ValueError(
                f"num_layers={self.num_layers} and num_fine_layers={self.num_fine_layers}: "
                f"{self.lookahead_samples / 16:.1f} ms of look-ahead; at most 320 ms are allowed. "
                "Use fewer layers."
            )

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz)."""
        return self.sampling_rate / self.hop_length

    def check_num_quantizers(self, num_quantizers: int | None) -> int:
        """Return the number, or all for None; raise InvalidCodesError if it is out of range."""
        return check_num_quantizers(num_quantizers, self.num_quantizers)

    def frames(self, samples: int) -> int:
        """Return the number of code frames of a clip: ceil(samples / hop_length)."""
        return frames_of(samples, self.hop_length)

    @property
    def first_piece(self) -> int:
        """Return the samples after which pieces of a frame's length each make a frame complete.

        With any other first piece, each frame would wait for the end of a piece of which it needs
        the beginning.
        """
        return self.lookahead_samples % self.hop_length or self.hop_length

    def padded_samples(self, samples: int) -> int:
        """Return the number of samples, with zeros at the end, that encode all frames of a clip."""
        return self.frames(samples) * self.hop_length + self.lookahead_samples


def _lookahead_samples(num_fine_layers: int, num_layers: int) -> int:
    """Count the samples after the end of a frame's own 640 that its code depends on.

    Counted backwards from frame 0: each 25 Hz block needs one frame more; the stride-2 convolutions
    (kernel 4, one frame of past) reach 2 t + 2; each 50 Hz block and the stem need one frame more;
    mel frame i ends at sample 160 i + 199.
    """
    fine = 2 * num_layers + 2 + num_fine_layers
    mel = 2 * fine + 2 + 1
    return 160 * mel + 199 - (HOP_LENGTH - 1)
