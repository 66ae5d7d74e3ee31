"""Write model cards (README.md) of adapters; recipes/wer_vs_bitrate writes others with them."""

from typing import Any

COLUMNS = ("coded_bps", "wer", "delta_wer")
EXPLAINED = (
    "`coded_bps`: 8 x bytes on disk per second. `wer`: word error rate, a fraction. `delta_wer`: "
    "its difference to uncompressed audio, with the same recogniser in the same run."
)
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
RECOGNISER = """from vqasr.adapters import load_recogniser

recogniser = load_recogniser({arguments})"""
Metrics = dict[str, list[dict[str, Any]]]


def model_card(config: dict[str, Any]) -> str:
    """Return the Markdown for an adapter, from the contents of adapter_config.json."""
    kind = {"VQASR_WHISPER": "Whisper", "VQASR_CTC": "CTC"}[config["adapter_type"]]
    base, sizes = config["base_model_name_or_path"], config["embedder"]
    depth = ", fewer for easy frames" if sizes["variable_depth"] else ""
    return card(
        "automatic-speech-recognition",
        "adapter",
        f"Speech codes for {base}",
        f"Maps codes of the vqasr codec `{config['codec_fingerprint']}` to the "
        f"embeddings of the {kind} model `{base}` (weights `{config['base_model_fingerprint']}`), "
        "which stays unchanged. No waveform is decoded and no spectrogram is computed.",
        RECOGNISER.format(arguments=f'"{base}", adapter="THIS_FOLDER"'),
        results_table(config["metrics"]),
        sizes=f"- up to {sizes['num_quantizers']} codebooks of {sizes['codebook_size']} at 25 Hz"
        f"{depth}\n"
        "- learned closing frames instead of padding to 30 s: "
        f"{sizes['num_closing_frames'] or 'none'}\n\n",
        base_model=f"base_model: {HUB_IDS.get(base, base)}\n",
        license=config["license"],
    )


def card(
    pipeline: str,
    tag: str,
    title: str,
    description: str,
    snippet: str,
    results: str,
    *,
    sizes: str = "",
    base_model: str = "",
    license: str = "apache-2.0",
) -> str:
    """Return the Markdown of a card: metadata of the hub, description, code, sizes and results."""
    return _CARD.format(**locals())


def results_table(
    metrics: Metrics, columns: tuple[str, ...] = COLUMNS, explained: str = EXPLAINED
) -> str:
    """Return a Markdown table of the rows of `vqasr evaluate` for each data set."""
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
