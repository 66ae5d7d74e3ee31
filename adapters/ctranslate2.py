"""Load CTranslate2 / faster-whisper folders into transformers.

Registry packages and faster-whisper caches hold Whisper weights in this format. Its `model.bin` is
a list of named arrays, each a parameter of `WhisperForConditionalGeneration`.
"""

import io
import json
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from vqasr.errors import RecogniserError

_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_ENGLISH_VOCAB_SIZE = 51864
_PARAMETERS = {
    "weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"
}  # fmt: skip
# Modules in transformers, by their names in CTranslate2, which stacks projections of one input.
_MODULES = {
    "conv1": ["conv1"],
    "conv2": ["conv2"],
    "embeddings": ["embed_tokens"],
    "position_encodings": ["embed_positions"],
    "layer_norm": ["layer_norm"],
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
}


def is_ctranslate2_folder(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds a CTranslate2 Whisper (`model.bin` and a tokenizer)."""
    return (Path(folder) / "model.bin").is_file() and (Path(folder) / "tokenizer.json").is_file()


def load_ctranslate2_whisper(
    folder: str | os.PathLike[str], weights: Sequence[Path] | None = None
) -> tuple[WhisperForConditionalGeneration, WhisperFeatureExtractor, WhisperTokenizer]:
    """Read a CTranslate2 / faster-whisper folder.

    Args:
        folder: holds `model.bin` (float32 or float16), `config.json` and `tokenizer.json`.
        weights: parts of `model.bin` in order, if it is not in the folder.

    Returns:
        The model in float32 and evaluation mode, its feature extractor and its tokenizer.

    Raises:
        RecogniserError: a file is missing or broken, the model is no Whisper, or its weights are
            integers.
    """
    folder = Path(folder)
    parts = [folder / "model.bin"] if weights is None else list(weights)
    if not all(path.is_file() for path in (*parts, folder / "tokenizer.json")):
        raise RecogniserError(
            f"{folder} is no CTranslate2 Whisper folder: model.bin and tokenizer.json are needed."
        )
    try:
        arrays = _read_arrays(io.BytesIO(b"".join(part.read_bytes() for part in parts)))
        settings = json.loads((folder / "config.json").read_text())
        # tokenizer.json does not name the padding token of OpenAI's own tokenizers.
        tokenizer = WhisperTokenizer.from_pretrained(str(folder), pad_token="<|endoftext|>")
    except Exception as error:  # struct, JSON, tokenizers, the file system
        raise RecogniserError(
            f"{folder} is no readable CTranslate2 Whisper folder ({error}). Download it again, or "
            "convert the model again with ct2-transformers-converter --quantization float16."
        ) from error
    if any(name.endswith("/weight_scale") for name in arrays):
        raise RecogniserError(
            f"{folder / 'model.bin'} holds integer-quantized weights. Use the float16 or float32 "
            "conversion of the same model (ct2-transformers-converter --quantization float16)."
        )
    try:
        config = _config(arrays)
        state = _state_dict(arrays)
    except KeyError as error:
        raise RecogniserError(f"{folder} holds no Whisper: {error} is missing.") from error
    with torch.device("meta"):  # random weights would take most of the time
        model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    if unexpected or set(missing) - {"proj_out.weight"}:  # proj_out is tied to the embeddings
        raise RecogniserError(
            f"{folder / 'model.bin'}: missing {missing}, unexpected {unexpected}."
        )
    model.tie_weights()
    model.generation_config = _generation_config(config, settings)
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return model.eval(), extractor, tokenizer


def _read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    def unpack(code: str) -> int:
        return int(struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0])

    def string() -> str:
        return file.read(unpack("H")).rstrip(b"\0").decode()

    version = unpack("I")
    if version != 6:
        raise ValueError(f"binary version {version}; version 6 is supported")
    string(), unpack("I")  # the specification's name and revision
    arrays = {}
    for _ in range(unpack("I")):
        name = string()
        shape = [unpack("I") for _ in range(unpack("B"))]
        dtype, size = unpack("B"), unpack("I")
        data = file.read(size)
        if dtype not in _DTYPES or len(data) != size:
            raise ValueError(f"array {name}: type {dtype}, {len(data)} of {size} bytes")
        arrays[name] = np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    return arrays


def _config(arrays: dict[str, np.ndarray]) -> WhisperConfig:
    vocab_size, width = arrays["decoder/embeddings/weight"].shape
    end = 50256 if vocab_size == _ENGLISH_VOCAB_SIZE else 50257

    def num_layers(side: str) -> int:
        return len({m[0] for name in arrays if (m := re.match(rf"{side}/layer_\d+", name))})

    return WhisperConfig(
        vocab_size=vocab_size,
        num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=num_layers("encoder"),
        decoder_layers=num_layers("decoder"),
        encoder_attention_heads=int(arrays["encoder/num_heads"]),
        decoder_attention_heads=int(arrays["decoder/num_heads"]),
        encoder_ffn_dim=arrays["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        decoder_ffn_dim=arrays["decoder/layer_0/ffn/linear_0/weight"].shape[0],
        max_source_positions=arrays["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=arrays["decoder/position_encodings/encodings"].shape[0],
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=end + 1,
    )


def _generation_config(config: WhisperConfig, settings: dict[str, Any]) -> GenerationConfig:
    # The vocabulary ends with translate, transcribe, ..., previous-text, no-speech, no-timestamps
    # and 1501 timestamps. Languages stand between start and translate: 99, or 100 since large-v3.
    no_timestamps = config.vocab_size - 1502
    start = config.decoder_start_token_id
    multilingual = config.vocab_size != _ENGLISH_VOCAB_SIZE
    choices: dict[str, Any] = {}
    if multilingual:
        languages = list(LANGUAGES)[: no_timestamps - 6 - start]
        choices = {
            "lang_to_id": {f"<|{name}|>": start + 1 + i for i, name in enumerate(languages)},
            "task_to_id": {"translate": no_timestamps - 5, "transcribe": no_timestamps - 4},
            "language": "en",
            "task": "transcribe",
        }
    return GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_length=config.max_target_positions,
        suppress_tokens=settings.get("suppress_ids", []),
        begin_suppress_tokens=settings.get("suppress_ids_begin", []),
        no_timestamps_token_id=no_timestamps,
        prev_sot_token_id=no_timestamps - 2,
        alignment_heads=settings.get("alignment_heads"),
        max_initial_timestamp_index=50,
        is_multilingual=multilingual,
        return_timestamps=False,
        **choices,
    )


def _state_dict(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    state = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"(encoder|decoder)/(layer_(\d+)/)?(.+)/(\w+)", name)
        if match is None or match[4] not in _MODULES or match[5] not in _PARAMETERS:
            continue  # a setting
        side, _, layer, module, parameter = match.groups()
        prefix = f"model.{side}.layers.{layer}" if layer else f"model.{side}"
        targets = _MODULES[module]
        parts = torch.from_numpy(array.astype(np.float32)).chunk(len(targets))
        for target, values in zip(targets, parts, strict=True):
            if not (target.endswith("k_proj") and parameter == "bias"):  # keys have no bias
                # A copy: safetensors refuses weights that share memory.
                state[f"{prefix}.{target}.{_PARAMETERS[parameter]}"] = values.clone()
    return state
