"""The README.md of an adapter's folder, made of what was measured."""

from typing import Any

COLUMNS = ("coded_bps", "wer", "delta_wer")
HUB_IDS = {
    "tiny.en": "openai/whisper-tiny.en",
    "base": "openai/whisper-base",
}  # of names that only vqasr has


def model_card(config: dict[str, Any]) -> str:
    """Markdown with the hub's metadata, from the contents of adapter_config.json."""
    kind = {"VQASR_WHISPER": "Whisper", "VQASR_CTC": "CTC"}[config["adapter_type"]]
    base = config["base_model_name_or_path"]
    sizes = config["embedder"]
    stops = ", frames may stop early" if sizes["variable_depth"] else ""
    closing = sizes["num_closing_frames"] or "none"
    lines = [
        "---",
        f"license: {config['license']}",
        f"base_model: {HUB_IDS.get(base, base)}",
        "library_name: vqasr",
        "pipeline_tag: automatic-speech-recognition",
        "tags: [vqasr, speech-codes, adapter]",
        "---",
        f"# Speech codes for {base}",
        "",
        f"Maps codes of the vqasr codec `{config['codec_fingerprint']}` to the embeddings of the "
        f"{kind} model `{base}` (weights `{config['base_model_fingerprint']}`), which stays as it "
        "is. No waveform is decoded and no spectrogram computed.",
        "",
        "```python",
        "from vqasr.adapters.load_recogniser import load_recogniser",
        "",
        f'reader = load_recogniser("{base}", adapter="THIS_FOLDER")',
        "```",
        "",
        f"- up to {sizes['num_quantizers']} codebooks of {sizes['codebook_size']} at 25 Hz{stops}",
        f"- learned closing frames instead of 30 s of padding: {closing}",
        "",
        "## Measured",
        "",
        *_tables(config["metrics"]),
    ]
    return "\n".join(lines) + "\n"


def ctc_card(name: str, codec_fingerprint: str, metrics: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown for the folder of a CTC recogniser that reads codes."""
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: vqasr",
        "pipeline_tag: automatic-speech-recognition",
        "tags: [vqasr, speech-codes, ctc]",
        "---",
        f"# {name}: codes to letters",
        "",
        f"A small Wav2Vec2 encoder with a CTC head that reads codes of the vqasr codec "
        f"`{codec_fingerprint}`: no Whisper, no waveform, no spectrogram. Its weights are stored "
        "as int8 with a scale for each row.",
        "",
        "```python",
        "from vqasr.adapters.load_recogniser import load_recogniser",
        "",
        'reader = load_recogniser("THIS_FOLDER")',
        "```",
        "",
        "## Measured",
        "",
        *_tables(metrics),
    ]
    return "\n".join(lines) + "\n"


def _tables(metrics: dict[str, list[dict[str, Any]]]) -> list[str]:
    if not metrics:
        return ["Nothing has been measured yet; `vqasr evaluate` does."]
    lines = [
        "Word error rate (`wer`, a fraction), its difference to uncompressed audio through the "
        "same recogniser in the same run (`delta_wer`), and 8 x bytes on disk a second "
        "(`coded_bps`).",
        "",
        "| data | system | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for name, rows in metrics.items():
        for row in rows:
            cells = (_cell(row.get(c)) for c in COLUMNS)
            lines.append(f"| {name} | {row['system']} | " + " | ".join(cells) + " |")
    return lines


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"
