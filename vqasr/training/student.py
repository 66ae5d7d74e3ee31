"""All that a training run learns: the codec, an adapter for each recogniser, the CTC head."""

from pathlib import Path

from torch import Tensor, nn

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.codec.configuration import VQCodecConfig
from vqasr.codec.modeling import VQCodecModel
from vqasr.errors import CodecError, RecogniserError, TrainingError
from vqasr.training.config import RecogniserConfig, TrainConfig
from vqasr.training.texts import LETTERS


class Student(nn.Module):
    """Codec, adapters and CTC head.

    Args:
        config: sizes, or what to begin with.
        recognisers: by the names of their adapters' folders.

    Raises:
        TrainingError: the configuration does not allow such modules.
    """

    def __init__(self, config: TrainConfig, recognisers: dict[str, OriginalWhisper]):
        super().__init__()
        try:
            if config.start_from:
                self.codec = VQCodecModel.from_pretrained(config.start_from)
            else:
                self.codec = VQCodecModel(VQCodecConfig(**config.codec))
        except (CodecError, TypeError, ValueError) as error:
            raise TrainingError(f"start_from or [codec]: {error}") from error
        sizes = self.codec.config
        if max(config.levels) > sizes.num_quantizers:
            raise TrainingError(
                f"[levels] draws {max(config.levels)} codebooks, but the codec has "
                f"{sizes.num_quantizers}. Draw 0 (unquantized) to that number."
            )
        self.names = list(recognisers)
        # A list: names of recognisers ("tiny.en") cannot be names of modules.
        self.embedders = nn.ModuleList(
            self._embedder(config, about, recogniser)
            for about, recogniser in zip(config.recognisers, recognisers.values(), strict=True)
        )
        self.ctc_head = nn.Linear(sizes.hidden_size, len(LETTERS))
        self.copy_codebooks()

    def _embedder(
        self, config: TrainConfig, about: RecogniserConfig, recogniser: OriginalWhisper
    ) -> CodeEmbedder:
        codec = self.codec.config
        try:
            if not about.adapter:
                return CodeEmbedder(
                    CodeEmbedderConfig(
                        num_quantizers=codec.num_quantizers,
                        codebook_size=codec.codebook_size,
                        latent_dim=codec.latent_dim,
                        embed_dim=recogniser.model.config.d_model,
                        variable_depth=codec.variable_depth,
                        **config.adapter,
                    )
                )
            adapter = CodesAdapter.from_pretrained(about.adapter)
        except (TypeError, RecogniserError) as error:
            raise TrainingError(f"adapter for {about.name}: {error}") from error
        wanted = (self.codec.fingerprint(), recogniser.fingerprint())
        if (adapter.codec_fingerprint, adapter.base_fingerprint) != wanted:
            raise TrainingError(
                f"adapter {about.adapter} reads codes of codec {adapter.codec_fingerprint.hex()} "
                f"for {adapter.base_model}; the codec is {wanted[0].hex()}, the recogniser "
                f"{about.name} ({wanted[1].hex()}). Name the adapter that belongs to both."
            )
        return adapter.embedder

    def copy_codebooks(self) -> None:
        """Give every adapter, which reads codes without a codec, the codec's codebooks."""
        for embedder in self.adapters().values():
            embedder.quantizer.codebooks.copy_(self.codec.quantizer.codebooks)

    def adapters(self) -> dict[str, CodeEmbedder]:
        """Adapters by the names of their folders."""
        return dict(zip(self.names, self.embedders, strict=True))  # type: ignore[arg-type]

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Clips (batch, samples) -> latents float32 and letters' logits, at 25 Hz each."""
        features = self.codec.encoder.clip_features(samples)
        return self.codec.encoder.to_latent(features).float(), self.ctc_head(features)


def adapter_name(recogniser: str) -> str:
    """Name of the folder of a recogniser's adapter: "openai/whisper-base.en" -> "base.en"."""
    return Path(recogniser).name.removeprefix("whisper-") or "whisper"
