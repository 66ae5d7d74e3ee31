"""Register the models, so that transformers' Auto classes and pipelines load their folders.

All of them at once, when `vqasr.adapters` is imported: a folder is loaded with several classes.
"""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc import VQWav2Vec2Config, VQWav2Vec2ForCTC
from vqasr.adapters.processor import CodesProcessor
from vqasr.adapters.whisper import VQWhisperConfig, VQWhisperForConditionalGeneration

AutoModelForCTC.register(VQWav2Vec2Config, VQWav2Vec2ForCTC)
AutoModelForSpeechSeq2Seq.register(VQWhisperConfig, VQWhisperForConditionalGeneration)
for config in (VQWav2Vec2Config, VQWhisperConfig):
    AutoConfig.register(config.model_type, config)
    AutoFeatureExtractor.register(config, CodesFeatureExtractor)
    AutoProcessor.register(config, CodesProcessor)
