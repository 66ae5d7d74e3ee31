"""A Whisper adapter on disk: a small folder beside a base model that stays as it is."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors.torch import load_file, save_file
from vqasr.adapters.code_embedder import CodeEmbedder, CodeEmbedderConfig

from vqasr.assets import resolve_adapter
from vqasr.errors import RecogniserError
from vqasr.fingerprint import weights_fingerprint

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER_TYPE = "VQASR_WHISPER"


@dataclass
class WhisperAdapter:
    """Codes -> embeddings for one base model and one codec.

    Attributes:
        embedder: the trained module.
        base_model: name of the recogniser it was trained for.
        base_fingerprint: 6 bytes, of that recogniser's weights.
        codec_fingerprint: 6 bytes, of the codec whose codes it reads.
    """

    embedder: CodeEmbedder
    base_model: str
    base_fingerprint: bytes
    codec_fingerprint: bytes

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write adapter_config.json and adapter_model.safetensors (float16)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "adapter_type": ADAPTER_TYPE,
            "base_model_name_or_path": self.base_model,
            "base_model_fingerprint": self.base_fingerprint.hex(),
            "codec_fingerprint": self.codec_fingerprint.hex(),
            "embedder": dataclasses.asdict(self.embedder.config),
        }
        state = self.embedder.state_dict()
        tensors = {name: tensor.half().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "WhisperAdapter":
        """Load an adapter in float32.

        Args:
            name_or_path: a folder, a hub id, or the name of a bundled adapter.

        Raises:
            RecogniserError: not there, or no Whisper adapter of vqasr.
        """
        folder = resolve_adapter(str(name_or_path))
        try:
            config: dict[str, Any] = json.loads(_file(folder, CONFIG_FILE).read_text())
            if config.get("adapter_type") != ADAPTER_TYPE:
                raise ValueError(f"adapter_type is {config.get('adapter_type')!r}")
            embedder = CodeEmbedder(CodeEmbedderConfig(**config["embedder"]))
            tensors = load_file(_file(folder, WEIGHTS_FILE))
            embedder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
            adapter = cls(
                embedder.eval(),
                config["base_model_name_or_path"],
                bytes.fromhex(config["base_model_fingerprint"]),
                bytes.fromhex(config["codec_fingerprint"]),
            )
        except Exception as error:  # hub, JSON, safetensors and torch each raise their own
            raise RecogniserError(
                f"adapter {str(name_or_path)!r} cannot be loaded ({error}). Give a folder that "
                f"holds {CONFIG_FILE} and {WEIGHTS_FILE}, or a hub id."
            ) from error
        return adapter

    def fingerprint(self) -> bytes:
        """6 bytes that name the adapter's own weights."""
        return weights_fingerprint(self.embedder.state_dict())


def _file(folder: str, name: str) -> Path:
    return Path(folder) / name if Path(folder).is_dir() else Path(hf_hub_download(folder, name))
