"""Codec and adapter that a training begins with."""

from pathlib import Path

from vqasr.adapters.code_embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.codes_adapter import CodesAdapter
from vqasr.configuration_vqcodec import VQCodecConfig
from vqasr.errors import CodecError, RecogniserError, TrainingError
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


def load_adapter(name: str, codec: VQCodecModel, embedder: CodeEmbedder) -> None:
    """Copy the weights of a finished adapter of `codec`; TrainingError where it does not fit."""
    try:
        adapter = CodesAdapter.from_pretrained(name)
        if adapter.codec_fingerprint != codec.fingerprint():
            wanted, own = adapter.codec_fingerprint.hex(), codec.fingerprint().hex()
            raise RecogniserError(f"it reads codes of {wanted}, this codec is {own}")
        _load_embedder(adapter, embedder)
    except (CodecError, RecogniserError, RuntimeError) as error:
        raise TrainingError(
            f"start_from = {name!r} is no adapter for this codec and configuration ({error})."
        ) from error


def load_finished(folder: Path, codec: VQCodecModel, embedder: CodeEmbedder) -> None:
    """Copy the weights of the folders codec and adapter that a run left; TrainingError if none."""
    try:
        finished = VQCodecModel.from_pretrained(folder / "codec")
        codec.load_state_dict(finished.state_dict())
        adapter = CodesAdapter.from_pretrained(folder / "adapter")
        _load_embedder(adapter, embedder)
    except (CodecError, RecogniserError, RuntimeError) as error:
        raise TrainingError(
            f"start_from = {str(folder)!r} holds no state of `vqasr train` and no finished codec "
            f"and adapter that fit this configuration ({error})."
        ) from error


def _load_embedder(adapter: CodesAdapter, embedder: CodeEmbedder) -> None:
    state = adapter.embedder.state_dict()
    if not embedder.config.num_closing_frames:  # they fit what is going to change
        state.pop("closing_frames", None)
    embedder.load_state_dict(state)
