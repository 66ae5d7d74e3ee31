"""Turn audio or streams into codes, and transcripts into labels."""

from typing import Any

from transformers import BatchFeature, ProcessorMixin, WhisperTokenizer

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.whisper import to_features


class CodesProcessor(ProcessorMixin):
    """Prepare inputs of `VQWhisperForConditionalGeneration` and `VQWav2Vec2ForCTC`.

    Example:
        >>> processor = CodesProcessor(CodesFeatureExtractor(bps=300), tokenizer)
        >>> ids = model.generate(**processor(samples, sampling_rate=16_000))
        >>> processor.batch_decode(ids, skip_special_tokens=True)

    Args:
        feature_extractor: makes codes.
        tokenizer: of the recogniser; a `WhisperTokenizer` selects the inputs of a Whisper.
    """

    feature_extractor: CodesFeatureExtractor

    def __init__(self, feature_extractor: CodesFeatureExtractor, tokenizer: Any):
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self,
        audio: Any = None,
        text: str | list[str] | None = None,
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Turn audio, streams and transcripts into tensors.

        Args:
            audio: a recording, stream or list of them, as `CodesFeatureExtractor` takes it.
            text: transcripts.
            sampling_rate: of arrays in Hz; 16,000 or None.
            kwargs: for the tokenizer.

        Returns:
            input_features (batch, n, 3000) for a Whisper, else input_values (batch, frames, n) and
            attention_mask; labels if there is text.

        Raises:
            ValueError: neither audio nor text.
        """
        if audio is None and text is None:
            raise ValueError("audio or text is needed.")
        inputs = BatchFeature()
        if audio is not None:
            inputs = self.feature_extractor(audio, sampling_rate=sampling_rate)
            if isinstance(self.tokenizer, WhisperTokenizer):
                codes = inputs["input_values"].transpose(1, 2)
                inputs = BatchFeature({"input_features": to_features(codes)})
        if text is not None:
            inputs["labels"] = self.tokenizer(text, **kwargs)["input_ids"]
        return inputs
