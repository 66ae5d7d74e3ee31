"""Load a recogniser of codes by its name."""

import json
from pathlib import Path

from transformers.utils.hub import cached_file

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc import VQWav2Vec2Config
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.assets import resolve
from vqasr.errors import RecogniserError
from vqasr.names import no_choices, split_name


def load_recogniser(
    asr: str = "tiny.en",
    adapter: str | None = None,
    language: str | None = None,
    task: str | None = None,
) -> Recogniser:
    """Load a recogniser that reads codes.

    Args:
        asr: "ctc-small" or a folder of `VQWav2Vec2ForCTC.save_pretrained`, with "+lm" for its
            language model or "+lm:FILE" for another one; a Whisper, as `load_whisper` takes it;
            or, with its adapter, folder or hub id of a Wav2Vec2, HuBERT or WavLM with a CTC head.
        adapter: folder, hub id or name; None for the one bundled for a Whisper's weights.
        language, task: of a multilingual Whisper, see `load_whisper`.

    Raises:
        RecogniserError: it cannot be loaded, or recogniser and adapter do not belong together.
    """
    needs_no_adapter = reads_codes_only(asr)
    if needs_no_adapter and adapter is not None:
        raise RecogniserError(
            f"{asr} reads codes by itself and takes no adapter. Leave --adapter out."
        )
    loaded = None if adapter is None else CodesAdapter.from_pretrained(adapter)
    if needs_no_adapter or (loaded is not None and loaded.kind == "ctc"):
        if language or task:
            raise no_choices(asr)
        if loaded is None:
            return CTCRecogniser.from_pretrained(asr)
        return CTCRecogniser.with_adapter(asr, loaded)
    return WhisperRecogniser.from_pretrained(asr, adapter, language=language, task=task)


def reads_codes_only(name: str) -> bool:
    """Tell whether a name is "ctc-small", or folder or hub id of a `VQWav2Vec2ForCTC`."""
    try:
        source = resolve(split_name(name)[0])
        config = json.loads(Path(str(cached_file(source, "config.json"))).read_text())
    except (OSError, ValueError):  # as "tiny.en"; no such folder, no such id, or no network
        return False
    return bool(config.get("model_type") == VQWav2Vec2Config.model_type)
