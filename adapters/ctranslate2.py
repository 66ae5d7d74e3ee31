"""Load CTranslate2 / faster-whisper folders into transformers.

CTranslate2 is how Whisper weights travel outside the hub (registry packages, faster-whisper
caches). Its `model.bin` is a list of named arrays; every array has its place in
`WhisperForConditionalGeneration`.
"""

import io
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

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


def is_ctranslate2_folder(folder: str | os.PathLike[str]) -> bool:
    """True where a folder holds a CTranslate2 Whisper model (`model.bin` and a tokenizer)."""
    return (Path(folder) / "model.bin").is_file() and (Path(folder) / "tokenizer.json").is_file()


def load_ctranslate2_whisper(
    folder: str | os.PathLike[str], weights: Sequence[Path] | None = None
) -> tuple[WhisperForConditionalGeneration, WhisperFeatureExtractor, WhisperTokenizer]:
    """Read a CTranslate2 / faster-whisper folder.

    Args:
        folder: holds `model.bin` (float32 or float16), `config.json` and `tokenizer.json`.
        weights: files that together, one behind the other, are `model.bin`, where that is not in
            the folder.

    Returns:
        The model in float32 and evaluation mode, its feature extractor and tokenizer.

    Raises:
        RecogniserError: a file is missing or broken, the model is no Whisper, or its weights are
            quantized to integers.
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
        # tokenizer.json alone does not say what OpenAI's own tokenizers pad with.
        tokenizer = WhisperTokenizer.from_pretrained(str(folder), pad_token="<|endoftext|>")
    except Exception as error:  # struct, JSON, tokenizers, the file system
        raise RecogniserError(
            f"{folder} is no readable CTranslate2 Whisper folder ({error}). Fetch it again, or "
            "convert the model anew with ct2-transformers-converter --quantization float16."
        ) from error
    if any(name.endswith("/weight_scale") for name in arrays):
        raise RecogniserError(
            f"{folder / 'model.bin'} holds integer-quantized weights. Use the float16 or float32 "
            "conversion of the same model (ct2-transformers-converter --quantization float16)."
        )
    try:
        config = _config(arrays)
        state = _state_dict(arrays, config)
    except KeyError as error:
        raise RecogniserError(
            f"{folder / 'model.bin'} is no Whisper: it has no {error}."
        ) from error
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
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
    layers = {
        side: len(
            {
                n.split("/")[1]
                for n in arrays
                if n.startswith(f"{side}/layer_") and not n.startswith(f"{side}/layer_norm")
            }
        )
        for side in ("encoder", "decoder")
    }
    return WhisperConfig(
        vocab_size=vocab_size,
        num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
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


def _generation_config(config: WhisperConfig, settings: dict) -> GenerationConfig:
    # Whisper's special tokens follow one another: the last 1501 of the vocabulary are timestamps,
    # before them stand no-timestamps, no-speech, previous-text, ..., transcribe, translate.
    no_timestamps = config.vocab_size - 1502
    multilingual = config.vocab_size != _ENGLISH_VOCAB_SIZE
    # Between the start and "translate" stand the languages: 99, since large-v3 100.
    languages = no_timestamps - 6 - config.decoder_start_token_id
    return GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
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
        **(
            {
                "lang_to_id": {
                    f"<|{language}|>": config.decoder_start_token_id + 1 + i
                    for i, language in enumerate(list(LANGUAGES)[:languages])
                },
                "task_to_id": {"translate": no_timestamps - 5, "transcribe": no_timestamps - 4},
                "language": "en",
                "task": "transcribe",
            }
            if multilingual
            else {}
        ),
    )


def _state_dict(arrays: dict[str, np.ndarray], config: WhisperConfig) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}

    def put(target: str, source: str) -> None:
        state[f"model.{target}"] = torch.from_numpy(arrays[source].astype(np.float32))

    def put_norm(target: str, source: str) -> None:
        put(f"{target}.weight", f"{source}/gamma")
        put(f"{target}.bias", f"{source}/beta")

    def put_linear(targets: list[str], source: str) -> None:
        """CTranslate2 stacks the projections that share an input; transformers has them apart."""
        for part, values in (
            ("weight", arrays[f"{source}/weight"]),
            ("bias", arrays[f"{source}/bias"]),
        ):
            for target, piece in zip(
                targets, np.split(values.astype(np.float32), len(targets)), strict=True
            ):
                if not (part == "bias" and target.endswith("k_proj")):  # keys have no bias
                    state[f"model.{target}.{part}"] = torch.from_numpy(piece.copy())

    for name in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            put(f"encoder.{name}.{part}", f"encoder/{name}/{part}")
    put("decoder.embed_tokens.weight", "decoder/embeddings/weight")
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        put(f"{side}.embed_positions.weight", f"{side}/position_encodings/encodings")
        put_norm(f"{side}.layer_norm", f"{side}/layer_norm")
        for i in range(layers):
            to, of = f"{side}.layers.{i}", f"{side}/layer_{i}"
            attention = f"{to}.self_attn"
            put_norm(f"{to}.self_attn_layer_norm", f"{of}/self_attention/layer_norm")
            put_linear([f"{attention}.{p}_proj" for p in "qkv"], f"{of}/self_attention/linear_0")
            put_linear([f"{attention}.out_proj"], f"{of}/self_attention/linear_1")
            put_norm(f"{to}.final_layer_norm", f"{of}/ffn/layer_norm")
            put_linear([f"{to}.fc1"], f"{of}/ffn/linear_0")
            put_linear([f"{to}.fc2"], f"{of}/ffn/linear_1")
            if side == "decoder":
                attention = f"{to}.encoder_attn"
                put_norm(f"{to}.encoder_attn_layer_norm", f"{of}/attention/layer_norm")
                put_linear([f"{attention}.q_proj"], f"{of}/attention/linear_0")
                put_linear([f"{attention}.{p}_proj" for p in "kv"], f"{of}/attention/linear_1")
                put_linear([f"{attention}.out_proj"], f"{of}/attention/linear_2")
    return state
