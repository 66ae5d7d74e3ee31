"""What is printed after each stage: reconstruction error, perplexity and WER on a slice of dev."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from vqasr.adapters.code_embedder import CodeEmbedder
from vqasr.adapters.recogniser import WINDOW_SAMPLES, WhisperRecogniser
from vqasr.adapters.whisper import WINDOW_FRAMES, CodesWhisper, to_features
from vqasr.data import row_audio
from vqasr.errors import TrainingError
from vqasr.metrics import word_errors
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.losses import reconstruction_error

BATCH = 8
MEL_FRAMES = 4 * WINDOW_FRAMES


@dataclass
class Verdict:
    """How a stage did on the dev slice.

    Attributes:
        reconstruction: relative log-mel error, by number of codebooks (0: no quantizer).
        perplexity: of each codebook.
        wer: by "pcm", "mel:n" (decoded log-mel to the stock recogniser) and "codes:n".
    """

    reconstruction: dict[str, float] = field(default_factory=dict)
    perplexity: list[float] = field(default_factory=list)
    wer: dict[str, float] = field(default_factory=dict)


class Judge:
    """Measures codec and adapter on the first utterances of the dev data."""

    def __init__(
        self, data: Dataset, text_column: str, utterances: int, recogniser: WhisperRecogniser
    ):
        if text_column not in data.column_names:
            raise TrainingError(
                f"the dev data have no column {text_column!r}; there are {data.column_names}."
            )
        rows = data.select(range(min(utterances * 2, len(data))))
        with_text = [row for row in rows if row[text_column]][:utterances]
        if not with_text:
            raise TrainingError("the dev data hold no transcripts to judge the stages by.")
        self._clips = [row_audio(row)[:WINDOW_SAMPLES] for row in with_text]
        self._texts = [row[text_column] for row in with_text]
        self._recogniser = recogniser
        self._pcm_wer: float | None = None

    @torch.inference_mode()
    def __call__(
        self, codec: VQCodecModel, embedder: CodeEmbedder, mel: list[int], codes: list[int]
    ) -> Verdict:
        """Measure; `mel` and `codes` list the numbers of codebooks to try on either path."""
        verdict = Verdict()
        if self._pcm_wer is None:
            self._pcm_wer = self._wer(
                [t for b in self._batches() for t in self._recogniser.transcribe_audio(b)]
            )
        verdict.wer["pcm"] = self._pcm_wer
        codec.eval(), embedder.eval()
        adapted = CodesWhisper(self._recogniser.model, embedder)
        counts = torch.zeros(codec.config.num_quantizers, codec.config.codebook_size)
        texts: dict[str, list[str]] = {}
        errors: dict[str, list[float]] = {}
        for clips in self._batches():
            samples, sample_mask = pad_clips(clips)
            latents, mask = codec.encode_latents(samples, sample_mask)
            all_codes = codec.quantizer.encode(latents, codec.config.num_quantizers)
            for level, row in enumerate(all_codes.transpose(0, 1)):
                counts[level] += torch.bincount(row[mask], minlength=codec.config.codebook_size)
            all_codes = all_codes.masked_fill(~mask[:, None], -1)
            for n in mel:
                quantized = codec.quantizer.decode(all_codes[:, :n]) if n else latents
                decoded = codec.mel_decoder(quantized)
                error = float(reconstruction_error(decoded, samples, mask))
                errors.setdefault(str(n), []).append(error)
                features = _whisper_features(decoded, mask)
                texts.setdefault(f"mel:{n}", []).extend(
                    self._recogniser.generate_text(self._recogniser.model, features)
                )
            for n in codes:
                features = to_features(all_codes[:, :n])
                texts.setdefault(f"codes:{n}", []).extend(
                    self._recogniser.generate_text(adapted, features)
                )
        share = counts / counts.sum(1, keepdim=True)
        entropy = -(share * share.clamp_min(1e-10).log()).sum(1)
        verdict.perplexity = [round(float(p), 1) for p in entropy.exp()]
        verdict.reconstruction = {n: round(float(np.mean(e)), 4) for n, e in errors.items()}
        verdict.wer |= {name: self._wer(hypotheses) for name, hypotheses in texts.items()}
        return verdict

    def _batches(self) -> list[list[np.ndarray]]:
        return [self._clips[i : i + BATCH] for i in range(0, len(self._clips), BATCH)]

    def _wer(self, hypotheses: list[str]) -> float:
        errors, words = word_errors(self._texts, hypotheses)
        return round(errors / max(1, words), 4)


def pad_clips(clips: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Clips to (batch, samples) float32 and (batch, samples) mask."""
    lengths = torch.tensor([len(clip) for clip in clips])
    samples = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return samples, torch.arange(samples.shape[1])[None] < lengths[:, None]


def _whisper_features(mel: Tensor, mask: Tensor) -> Tensor:
    """Decoded log-mel (batch, frames, 80) as Whisper wants it: floored per clip, (80, 3000)."""
    real = mask.repeat_interleave(4, dim=1)[..., None]
    quiet = mel.masked_fill(~real, -10.0)
    quiet = F.pad(quiet[:, :MEL_FRAMES], (0, 0, 0, max(0, MEL_FRAMES - mel.shape[1])), value=-10.0)
    return torch.maximum(quiet, quiet.amax((1, 2), keepdim=True) - 2.0).transpose(1, 2)
