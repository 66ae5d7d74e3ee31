"""Names of recognisers and systems, checked before models are loaded: no torch."""

from vqasr.errors import RecogniserError

LANGUAGE_MODEL = "+lm"  # behind a recogniser's name, see `split_name`
CODES_ONLY = ("ctc-small",)
# Of `vqasr evaluate`.
DEFAULT_SYSTEMS = (
    "pcm,vqasr:1,vqasr:2,vqasr:4,vqasr:4:audio,codec2:1300,codec2:3200,amrnb:4750,opus:6000,"
    "opus:12000,mp3:16000,text"
)
OF_BUNDLED_CODEC = ("tiny.en", "base", *CODES_ONLY)  # with the adapters that ship


def split_name(name: str) -> tuple[str, str | None]:
    """Split a recogniser's name into the model's name and its language model.

    The language model is "" for the model's own, as in "ctc-small+lm"; a file, as in
    "ctc-small+lm:words.arpa"; or None if there is none.

    Raises:
        RecogniserError: the file has no name.
    """
    model, mark, file = name.partition(f"{LANGUAGE_MODEL}:")
    if mark and not file:
        raise RecogniserError(
            f"{name!r} names no language model: use {model}{LANGUAGE_MODEL}:words.arpa, or "
            f"{model}{LANGUAGE_MODEL} for the model's own."
        )
    if mark:
        return model, file
    own = name.endswith(LANGUAGE_MODEL)
    return name.removesuffix(LANGUAGE_MODEL), "" if own else None


def check_choices(asr: str, language: str | None, task: str | None) -> None:
    """Raise RecogniserError if the recogniser is known to have no languages and tasks."""
    if language is None and task is None:
        return
    if split_name(asr)[0] in CODES_ONLY:
        raise no_choices(asr)
    if asr == "tiny.en":
        raise english_only(asr)


def no_choices(asr: str) -> RecogniserError:
    """Make the error of a CTC model."""
    return RecogniserError(f"{asr} has no languages or tasks to choose; Whisper base has.")


def english_only(asr: str) -> RecogniserError:
    """Make the error of an English Whisper."""
    return RecogniserError(
        f"{asr} knows English only: language and task cannot be chosen. Use a multilingual "
        "Whisper, for instance base."
    )
