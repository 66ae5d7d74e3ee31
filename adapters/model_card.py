"""Write model cards (README.md) of codecs, code priors, adapters and CTC recognisers."""

from typing import Any

COLUMNS = ("coded_bps", "wer", "delta_wer")
RATE_COLUMNS = ("nominal_bps", "order0_bps", "prior_bps", "coded_bps")
HUB_IDS = {"tiny.en": "openai/whisper-tiny.en", "base": "openai/whisper-base"}  # by vqasr's names

_CARD = """---
license: {license}
{base_model}library_name: vqasr
pipeline_tag: {pipeline}
tags: [vqasr, speech-codes, {tag}]
---
# {title}

{description}

```python
{snippet}
```

{sizes}## Results

{results}
"""
_RECOGNISER = """from vqasr.adapters import load_recogniser

recogniser = load_recogniser({arguments})"""
_CODEC = """from vqasr import compress, decode

stream = compress("talk.wav", codec="THIS_FOLDER", num_quantizers=4)
audio = decode(stream, codec="THIS_FOLDER")"""
_PRIOR = """from vqasr import CodePrior, compress

prior = CodePrior.from_pretrained("THIS_FOLDER")
stream = compress("talk.wav", num_quantizers=4, prior=prior)"""
Metrics = dict[str, list[dict[str, Any]]]


def model_card(config: dict[str, Any]) -> str:
    """Return the Markdown for an adapter, from the contents of adapter_config.json."""
    kind = {"VQASR_WHISPER": "Whisper", "VQASR_CTC": "CTC"}[config["adapter_type"]]
    base, sizes = config["base_model_name_or_path"], config["embedder"]
    depth = ", fewer for easy frames" if sizes["variable_depth"] else ""
    return _CARD.format(
        license=config["license"],
        pipeline="automatic-speech-recognition",
        base_model=f"base_model: {HUB_IDS.get(base, base)}\n",
        tag="adapter",
        title=f"Speech codes for {base}",
        description=f"Maps codes of the vqasr codec `{config['codec_fingerprint']}` to the "
        f"embeddings of the {kind} model `{base}` (weights `{config['base_model_fingerprint']}`), "
        "which stays unchanged. No waveform is decoded and no spectrogram is computed.",
        snippet=_RECOGNISER.format(arguments=f'"{base}", adapter="THIS_FOLDER"'),
        sizes=f"- up to {sizes['num_quantizers']} codebooks of {sizes['codebook_size']} at 25 Hz"
        f"{depth}\n"
        "- learned closing frames instead of padding to 30 s: "
        f"{sizes['num_closing_frames'] or 'none'}\n\n",
        results=_tables(config["metrics"]),
    )


def ctc_card(name: str, codec_fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a CTC recogniser that reads codes."""
    return _CARD.format(
        license="apache-2.0",
        pipeline="automatic-speech-recognition",
        base_model="",
        tag="ctc",
        title=f"{name}: codes to letters",
        description="A small Wav2Vec2 encoder with a CTC head that reads codes of the vqasr codec "
        f"`{codec_fingerprint}`: no Whisper, no waveform, no spectrogram. Weights are stored as "
        "int8 with a scale per row. With `+lm` after its name, words are found with a word n-gram; "
        "rows with `+greedy` are the likeliest letters alone.",
        snippet=_RECOGNISER.format(arguments='"THIS_FOLDER"'),
        sizes="",
        results=_tables(metrics),
    )


def codec_card(name: str, config: dict[str, Any], fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a codec.

    Args:
        name: of the codec.
        config: contents of config.json.
        fingerprint: of the codec, hexadecimal.
        metrics: rows of `vqasr evaluate` for each data set.
    """
    return _CARD.format(
        license="apache-2.0",
        pipeline="feature-extraction",
        base_model="",
        tag="codec",
        title=f"{name}: speech codec",
        description=f"Codec `{fingerprint}`: 16 kHz speech to {config['num_quantizers']} residual "
        f"codes of {config['codebook_size']} at {16_000 / config['hop_length']:g} Hz and back. "
        "Recognisers read the codes through an adapter.",
        snippet=_CODEC,
        sizes=f"- look-ahead {config['lookahead_samples'] / 16:g} ms\n"
        f"- the first codebooks describe {config['base_dim']} of {config['latent_dim']} latent "
        "dimensions\n\n",
        results=_tables(metrics),
    )


def prior_card(name: str, codec_fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a code prior; arguments as of `codec_card`."""
    return _CARD.format(
        license="apache-2.0",
        pipeline="other",
        base_model="",
        tag="code-prior",
        title=f"{name}: probabilities of codes",
        description=f"Integer network that predicts the codes of codec `{codec_fingerprint}` for "
        "the range coder, with the same probabilities on every machine.",
        snippet=_PRIOR,
        sizes="",
        results=_tables(
            metrics,
            RATE_COLUMNS,
            "Bits per second on disk (`coded_bps`), and by "
            "the prior, the order-0 entropy and the sizes of the codebooks.",
        ),
    )


def _tables(
    metrics: Metrics, columns: tuple[str, ...] = COLUMNS,
    explained: str = "`coded_bps`: 8 x bytes on disk per second. `wer`: word error rate, a "
    "fraction. `delta_wer`: its difference to uncompressed audio, with the same recogniser in the "
    "same run.",
) -> str:  # fmt: skip
    if not metrics:
        return "None yet; measure some with `vqasr evaluate`."
    lines = [
        explained,
        "",
        "| data | system | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name, rows in metrics.items():
        for row in rows:
            cells = (_cell(row.get(c)) for c in columns)
            lines.append(f"| {name} | {row['system']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"
