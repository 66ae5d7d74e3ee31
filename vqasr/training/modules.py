"""Untrained codec and adapter of a training configuration."""

from vqasr.adapters.code_embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.configuration_vqcodec import VQCodecConfig
from vqasr.errors import TrainingError
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.config import TrainConfig, drawn_levels


def build_modules(config: TrainConfig, embed_dim: int) -> tuple[VQCodecModel, CodeEmbedder]:
    """Untrained codec and adapter; TrainingError where the configuration does not allow them."""
    try:
        if config.frozen_codec:
            codec = VQCodecModel.from_pretrained(config.frozen_codec)
        else:
            codec = VQCodecModel(VQCodecConfig(**config.codec))
        embedder = CodeEmbedder(
            CodeEmbedderConfig(
                num_quantizers=codec.config.num_quantizers,
                codebook_size=codec.config.codebook_size,
                latent_dim=codec.config.latent_dim,
                embed_dim=embed_dim,
                variable_depth=codec.config.variable_depth,
                **config.adapter,
            )
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"[codec] or [adapter]: {error}") from error
    highest = max(drawn_levels(config))
    if highest > codec.config.num_quantizers:
        raise TrainingError(
            f"[levels] draws {highest} codebooks, but the codec has "
            f"{codec.config.num_quantizers}. Draw 0 (unquantized) to that number."
        )
    if config.frozen_codec:
        embedder.quantizer.load_state_dict(codec.quantizer.state_dict())
    return codec, embedder
