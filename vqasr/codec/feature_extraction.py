"""Feature extractor of the codec: audio arrays to a padded batch."""

from typing import Any

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from vqasr.audio.arrays import to_mono
from vqasr.audio.sources import as_clips
from vqasr.errors import AudioError


class VQCodecFeatureExtractor(SequenceFeatureExtractor):
    """Pad mono clips at 16 kHz into a batch; the log-mel is computed inside the codec."""

    model_input_names = ["input_values", "padding_mask"]  # noqa: RUF012 (transformers' convention)

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)

    def __call__(
        self,
        raw_audio: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Make a batch.

        Args:
            raw_audio: one clip, or a list of clips of any lengths, each as `to_mono` takes it. An
                array is one clip: its second axis is channels.
            sampling_rate: of the clips in Hz; required, and must be 16,000.
            return_tensors: "pt" or "np".

        Returns:
            input_values (batch, 1, samples) float32 and padding_mask (batch, samples) of 0 and 1.

        Raises:
            AudioError: missing or wrong rate, or no clip; see also `to_mono`.
        """
        if sampling_rate != self.sampling_rate:
            given = "no sampling rate was given" if sampling_rate is None else f"{sampling_rate} Hz"
            raise AudioError(
                f"{given}: the codec needs sampling_rate={self.sampling_rate}. Resample with "
                "vqasr.audio.files.to_mono_16_khz."
            )
        clips = [to_mono(clip, f"clip {i}") for i, clip in enumerate(as_clips(raw_audio))]
        width = max(map(len, clips))
        values = np.full((len(clips), 1, width), self.padding_value, np.float32)
        mask = np.zeros((len(clips), width), np.int64)
        for i, clip in enumerate(clips):
            values[i, 0, : len(clip)] = clip
            mask[i, : len(clip)] = 1
        return BatchFeature({"input_values": values, "padding_mask": mask}, return_tensors)
