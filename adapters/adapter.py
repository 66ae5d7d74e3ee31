"""Save and load adapters, as PEFT does: a small folder beside an unchanged base model."""

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from safetensors.torch import load_file, save
from transformers.utils.hub import cached_file

from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.model_card import model_card
from vqasr.assets import BUNDLED_ADAPTERS, resolve
from vqasr.codec.int8_weights import from_int8, to_int8
from vqasr.errors import RecogniserError
from vqasr.files import replace_file

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
ADAPTER_TYPES = {"whisper": "VQASR_WHISPER", "ctc": "VQASR_CTC"}


@dataclass
class CodesAdapter:
    """Hold an embedder with the base model and codec that it was trained for.

    Attributes:
        embedder: maps codes to embeddings.
        base_model: name of the recogniser.
        base_fingerprint: 6 bytes, of the recogniser's weights.
        codec_fingerprint: 6 bytes, of the codec.
        kind: "whisper", or "ctc" for Wav2Vec2, HuBERT and WavLM.
        license: of the adapter's weights.
        metrics: {data set: rows of `vqasr evaluate`}, for the model card.
    """

    embedder: CodeEmbedder
    base_model: str
    base_fingerprint: bytes
    codec_fingerprint: bytes
    kind: str = "whisper"
    license: str = "apache-2.0"
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def save_pretrained(self, folder: str | os.PathLike[str], int8: bool = False) -> None:
        """Write adapter_config.json, adapter_model.safetensors and the model card.

        Args:
            folder: created if missing.
            int8: store matrices as int8, half the size of float16 (`to_int8`).
        """
        folder = Path(folder)
        config = {
            "adapter_type": ADAPTER_TYPES[self.kind],
            "base_model_name_or_path": self.base_model,
            "base_model_fingerprint": self.base_fingerprint.hex(),
            "codec_fingerprint": self.codec_fingerprint.hex(),
            "license": self.license,
            "embedder": dataclasses.asdict(self.embedder.config),
            "metrics": self.metrics,
        }
        state = self.embedder.state_dict()
        if int8:
            tensors = to_int8(state)
        else:
            tensors = {name: tensor.half().cpu().contiguous() for name, tensor in state.items()}
        replace_file(folder / WEIGHTS_FILE, save(tensors, {"format": "pt"}))
        replace_file(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        replace_file(folder / CARD_FILE, model_card(config).encode())  # the last: a sign of the end

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CodesAdapter":
        """Load an adapter in float32.

        Args:
            name_or_path: folder, hub id, or name of a bundled adapter.

        Raises:
            RecogniserError: it is missing, or no adapter of vqasr.
        """
        kinds = {adapter_type: kind for kind, adapter_type in ADAPTER_TYPES.items()}
        try:
            folder = resolve(name_or_path)
            config = json.loads(Path(str(cached_file(folder, CONFIG_FILE))).read_text())
            if config.get("adapter_type") not in kinds:
                raise ValueError(f"adapter_type is {config.get('adapter_type')!r}")
            embedder = CodeEmbedder(CodeEmbedderConfig(**config["embedder"]))
            embedder.load_state_dict(from_int8(load_file(str(cached_file(folder, WEIGHTS_FILE)))))
            return cls(
                embedder.eval(),
                config["base_model_name_or_path"],
                bytes.fromhex(config["base_model_fingerprint"]),
                bytes.fromhex(config["codec_fingerprint"]),
                kinds[config["adapter_type"]],
                config.get("license", "apache-2.0"),
                config.get("metrics", {}),
            )
        except Exception as error:  # hub, JSON, safetensors and torch each raise their own
            reason = " ".join(str(error).split())  # some take several lines
            raise RecogniserError(
                f"adapter {str(name_or_path)!r} cannot be loaded ({reason}). Give "
                f"{' or '.join(BUNDLED_ADAPTERS)}, a hub id, or a folder with {CONFIG_FILE} and "
                f"{WEIGHTS_FILE}."
            ) from error

    def check_base(self, name: str, fingerprint: bytes) -> None:
        """Raise RecogniserError unless the adapter was trained for these weights."""
        if fingerprint != self.base_fingerprint:
            raise RecogniserError(
                f"the adapter was trained for {self.base_model}, whose weights are not those of "
                f"{name}. Use the recogniser it was trained for, or train an adapter."
            )

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> str:
        """Upload to the Hugging Face hub; needs network and a login or token.

        Returns:
            Address of the commit.

        Raises:
            RecogniserError: the hub cannot be reached, or refuses.
        """
        hub = HfApi(token=token)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.save_pretrained(folder)
                hub.create_repo(repo_id, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=repo_id, folder_path=folder).commit_url)
        except Exception as error:  # requests, huggingface_hub and the system each raise their own
            raise RecogniserError(
                f"{repo_id!r}: the upload failed ({str(error).splitlines()[0]}). Log in with "
                "`hf auth login`, and unset HF_HUB_OFFLINE."
            ) from error
