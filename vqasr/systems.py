"""The systems that `vqasr evaluate` compares: what is heard, what it costs, and its text."""

import math
import time
from dataclasses import dataclass

import numpy as np

from vqasr.adapters.transcribe import CodesRecogniser
from vqasr.encoding import codes_to_stream, encode_audio, encode_latents
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.stream import stream_from_bytes

PCM_BITS_PER_SAMPLE = 16
WITHOUT_CODES = ("pcm", "vqasr:continuous")


@dataclass
class Heard:
    """What a system makes of some clips.

    Attributes:
        texts: one per clip.
        stream_bytes: size of each clip's stream; None where nothing is transmitted as bytes.
        encode_s, asr_s: seconds of computing for all clips; encode_s None without a codec.
    """

    texts: list[str]
    stream_bytes: list[int] | None
    encode_s: float | None
    asr_s: float


class System:
    """One way from audio to text.

    Args:
        name: "pcm", "vqasr:N" or "vqasr:continuous".
        codec: the codec.
        recogniser: with the adapter that belongs to the codec.

    Raises:
        VqasrError: no such system.
        CodecMismatchError: the adapter belongs to another codec.
    """

    def __init__(self, name: str, codec: VQCodecModel, recogniser: CodesRecogniser):
        self.name = name
        self._codec = codec
        self._recogniser = recogniser
        self._fingerprint = codec.fingerprint()
        if name != "pcm" and recogniser.adapter.codec_fingerprint != self._fingerprint:
            raise CodecMismatchError(
                f"the adapter reads codec {recogniser.adapter.codec_fingerprint.hex()}, the codec "
                f"is {self._fingerprint.hex()}. Use --codec and --adapter of one training."
            )
        self._num_quantizers = None if name in WITHOUT_CODES else _num_quantizers(name, codec)

    def nominal_bits(self, samples: int) -> float | None:
        """Bits of a clip before entropy coding and container: frames x sum of log2(codebook size).

        16 bits a sample for "pcm"; None for "vqasr:continuous", which is never written.
        """
        if self.name == "pcm":
            return float(samples * PCM_BITS_PER_SAMPLE)
        if self._num_quantizers is None:
            return None
        config = self._codec.config
        return config.frames(samples) * sum(
            map(math.log2, config.codebook_sizes[: self._num_quantizers])
        )

    def hear(self, clips: list[np.ndarray], batch_size: int) -> Heard:
        """Transcribe (samples,) float32 clips at 16 kHz, timing each part."""
        if self.name == "pcm":
            started = time.perf_counter()
            texts = self._recogniser.recogniser.transcribe_audio(clips)
            size = [len(clip) * PCM_BITS_PER_SAMPLE // 8 for clip in clips]
            return Heard(texts, size, None, time.perf_counter() - started)
        started = time.perf_counter()
        if self.name == "vqasr:continuous":
            latents = [encode_latents(self._codec, clip) for clip in clips]
            encoded = time.perf_counter()
            texts = self._recogniser.transcribe_latents(latents, batch_size)
            return Heard(texts, None, encoded - started, time.perf_counter() - encoded)
        codes = [encode_audio(self._codec, clip, self._num_quantizers) for clip in clips]
        encoded = time.perf_counter()
        streams = [
            codes_to_stream(c, len(clip), self._codec.config, self._fingerprint)
            for c, clip in zip(codes, clips, strict=True)
        ]
        written = time.perf_counter()
        read = [stream_from_bytes(data) for data in streams]
        texts = self._recogniser.transcribe_streams(read, batch_size)
        heard = time.perf_counter()
        return Heard(texts, [len(s) for s in streams], encoded - started, heard - written)


def expand_systems(names: str, codec: VQCodecModel) -> list[str]:
    """ "pcm,vqasr:all" -> ["pcm", "vqasr:1", ...]; VqasrError for a name that does not exist."""
    expanded: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        if name == "vqasr:all":
            expanded += [f"vqasr:{n + 1}" for n in range(codec.config.num_quantizers)]
        elif name:
            if name not in WITHOUT_CODES:
                _num_quantizers(name, codec)
            expanded.append(name)
    if not expanded:
        raise VqasrError("no system was named; for instance pcm,vqasr:1,vqasr:4.")
    return list(dict.fromkeys(expanded))


def _num_quantizers(name: str, codec: VQCodecModel) -> int:
    prefix, _, number = name.partition(":")
    if prefix != "vqasr" or not number.isdigit():
        raise VqasrError(
            f"unknown system {name!r}; there are pcm, vqasr:N with N from 1 to "
            f"{codec.config.num_quantizers}, vqasr:all and vqasr:continuous."
        )
    return codec.check_num_quantizers(int(number))
