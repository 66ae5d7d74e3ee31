"""The trained modules: the codec, an adapter for each recogniser, the CTC head."""

from torch import Tensor, nn

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.codec.configuration import VQCodecConfig
from vqasr.codec.modeling import VQCodecModel
from vqasr.errors import CodecError, RecogniserError, TrainingError
from vqasr.training.config import RecogniserConfig, TrainConfig, check_keys
from vqasr.training.texts import LETTERS


class Student(nn.Module):
    """Codec, adapters and CTC head.

    Args:
        config: sizes, or the codec and adapters to begin with.
        recognisers: in the order of the configuration.

    Raises:
        TrainingError: the configuration does not allow such modules.
    """

    def __init__(self, config: TrainConfig, recognisers: list[OriginalWhisper]):
        super().__init__()
        check_keys("codec", config.codec, VQCodecConfig)
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
        pairs = zip(config.recognisers, recognisers, strict=True)
        self.embedders = nn.ModuleList(self._embedder(config, *pair) for pair in pairs)
        self.ctc_head = nn.Linear(sizes.hidden_size, len(LETTERS))
        self.copy_codebooks()

    def _embedder(
        self, config: TrainConfig, entry: RecogniserConfig, recogniser: OriginalWhisper
    ) -> CodeEmbedder:
        codec = self.codec.config
        try:
            if not entry.adapter:
                sizes = CodeEmbedderConfig(
                    codec.num_quantizers, codec.codebook_size, codec.latent_dim,
                    embed_dim=recogniser.model.config.d_model,
                    variable_depth=codec.variable_depth, **config.adapter,
                )  # fmt: skip
                return CodeEmbedder(sizes)
            adapter = CodesAdapter.from_pretrained(entry.adapter)
        except (TypeError, RecogniserError) as error:
            raise TrainingError(f"adapter for {entry.name}: {error}") from error
        expected = (self.codec.fingerprint(), recogniser.fingerprint())
        if (adapter.codec_fingerprint, adapter.base_fingerprint) != expected:
            raise TrainingError(
                f"adapter {entry.adapter} reads codes of codec {adapter.codec_fingerprint.hex()} "
                f"for {adapter.base_model}; the codec is {expected[0].hex()}, the recogniser "
                f"{entry.name} ({expected[1].hex()}). Name the adapter that belongs to both."
            )
        return adapter.embedder

    def copy_codebooks(self) -> None:
        """Copy the codec's codebooks to every adapter; adapters read codes without a codec."""
        for embedder in self.adapters():
            embedder.quantizer.codebooks.copy_(self.codec.quantizer.codebooks)

    def adapters(self) -> list[CodeEmbedder]:
        """Return the adapters in the order of the recognisers."""
        return list(self.embedders)  # type: ignore[arg-type]

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Encode clips (batch, samples) to float32 latents and letters' logits, at 25 Hz each."""
        features = self.codec.encoder.features(samples)
        return self.codec.encoder.to_latent(features).float(), self.ctc_head(features)
