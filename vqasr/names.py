"""What the name of a recogniser tells before it is loaded, which takes seconds: no torch."""

from vqasr.errors import RecogniserError

CODES_ONLY = ("ctc-small", "ctc-small+lm")
OF_BUNDLED_CODEC = ("tiny.en", "base", *CODES_ONLY)  # with the adapters that ship


def check_choices(asr: str, language: str | None, task: str | None) -> None:
    """Raise RecogniserError if the recogniser is known to have no languages and tasks."""
    if language is None and task is None:
        return
    if asr in CODES_ONLY:
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
