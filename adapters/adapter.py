"""An adapter on disk, as PEFT does it: a small folder beside a base model that stays as it is."""

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from safetensors.torch import load_file, save_file

from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.int8_weights import from_int8, to_int8
from vqasr.adapters.model_card import model_card
from vqasr.assets import resolve_adapter
from vqasr.errors import RecogniserError
from vqasr.fingerprint import weights_fingerprint

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
ADAPTER_TYPES = {"whisper": "VQASR_WHISPER", "ctc": "VQASR_CTC"}


@dataclass
class CodesAdapter:
    """Codes -> embeddings for one base model and one codec.

    Attributes:
        embedder: the trained module.
        base_model: name of the recogniser it was trained for.
        base_fingerprint: 6 bytes, of that recogniser's weights.
        codec_fingerprint: 6 bytes, of the codec whose codes it reads.
        kind: "whisper", or "ctc" for Wav2Vec2, HuBERT and WavLM.
        license: of the adapter's weights.
        metrics: what was measured, {data set: rows of `vqasr evaluate`}; the model card shows it.
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
            folder: is made where it is missing.
            int8: matrices as int8 with a scale for each row, half of the size of float16.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
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
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        (folder / CARD_FILE).write_text(model_card(config))

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CodesAdapter":
        """Load an adapter in float32.

        Args:
            name_or_path: a folder, a hub id, or the name of a bundled adapter.

        Raises:
            RecogniserError: not there, or no adapter of vqasr.
        """
        folder = resolve_adapter(str(name_or_path))
        try:
            config: dict[str, Any] = json.loads(_file(folder, CONFIG_FILE).read_text())
            kinds = {name: kind for kind, name in ADAPTER_TYPES.items()}
            if config.get("adapter_type") not in kinds:
                raise ValueError(f"adapter_type is {config.get('adapter_type')!r}")
            embedder = CodeEmbedder(CodeEmbedderConfig(**config["embedder"]))
            tensors = load_file(_file(folder, WEIGHTS_FILE))
            embedder.load_state_dict(from_int8(tensors))
            adapter = cls(
                embedder.eval(),
                config["base_model_name_or_path"],
                bytes.fromhex(config["base_model_fingerprint"]),
                bytes.fromhex(config["codec_fingerprint"]),
                kinds[config["adapter_type"]],
                config.get("license", "apache-2.0"),
                config.get("metrics", {}),
            )
        except Exception as error:  # hub, JSON, safetensors and torch each raise their own
            raise RecogniserError(
                f"adapter {str(name_or_path)!r} cannot be loaded ({error}). Give a folder that "
                f"holds {CONFIG_FILE} and {WEIGHTS_FILE}, or a hub id."
            ) from error
        return adapter

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> str:
        """Upload to the Hugging Face hub; needs network and a login (or a token).

        Returns:
            The address of the commit.

        Raises:
            RecogniserError: the hub cannot be reached or refuses.
        """
        hub = HfApi(token=token)
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.save_pretrained(folder)
                hub.create_repo(repo_id, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=repo_id, folder_path=folder).commit_url)
        except Exception as error:  # requests, huggingface_hub and the system each raise their own
            raise RecogniserError(
                f"{repo_id!r}: the upload failed ({str(error).splitlines()[0]}). `hf auth login` "
                "logs in; HF_HUB_OFFLINE must not be set."
            ) from error

    def fingerprint(self) -> bytes:
        """6 bytes that name the adapter's own weights."""
        return weights_fingerprint(self.embedder.state_dict())


def _file(folder: str, name: str) -> Path:
    return Path(folder) / name if Path(folder).is_dir() else Path(hf_hub_download(folder, name))
