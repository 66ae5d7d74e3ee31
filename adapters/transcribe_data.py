"""Transcribe data sets of audio, codes or streams, on one machine or many."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from vqasr.adapters.loading import load_recogniser
from vqasr.adapters.recogniser import move
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import compress
from vqasr.compression.rates import operating_point
from vqasr.data.engines import LocalEngine
from vqasr.data.shard_folder import ShardFolder
from vqasr.data.shard_work import Added, Engine, process_shards
from vqasr.data.shards import AUDIO, CODES_KEY, ShardedData
from vqasr.data.speech import row_audio
from vqasr.data.tokenized import COLUMNS, row_codes
from vqasr.entropy.packing import check_num_quantizers
from vqasr.errors import CodecMismatchError, InvalidCodesError, VqasrError
from vqasr.stream.header import StreamHeader

NAME, TRANSCRIPT, SEGMENTS = "texts", "transcript", "segments"
# Rows whose codes are kept together, to make batches of similar length.
WINDOW_ROWS = 128


@dataclass(frozen=True)
class TranscribeConfig:
    """Settings of the transcripts of a data set.

    Attributes:
        data, split: as `load_speech` takes them, with a column audio, codes or vqs.
        asr, adapter, language, task: as `load_recogniser` takes them.
        codec: name or folder; compresses audio.
        num_quantizers, bps: the rate of audio, see `operating_point`; num_quantizers also limits
            codes.
        timestamps: add a column segments (start_s, end_s, text).
        batch_size: windows of up to 30 s that are decoded together.
        form: see `TokenizeConfig`.
        device: of the recogniser, such as "cuda"; audio is compressed on the CPU.
    """

    data: tuple[str, ...]
    split: str | None = None
    asr: str = "tiny.en"
    adapter: str | None = None
    language: str | None = None
    task: str | None = None
    codec: str = "vqasr-base"
    num_quantizers: int | None = None
    bps: float | None = None
    timestamps: bool = False
    batch_size: int = 8
    form: str = "parquet"
    device: str = "cpu"


def transcribe_data(
    config: TranscribeConfig,
    folder: str | os.PathLike[str],
    shard_rows: int = 500,
    engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Transcribe a data set; continue if the folder holds the beginning of an interrupted run.

    Writes texts-00000-of-00007.parquet, ... with a column transcript and all columns but the audio.
    Arguments, return value and errors as in `tokenize`.

    Raises:
        RecogniserError: the recogniser cannot be loaded.
        CodecMismatchError: the codes are another codec's than the recogniser's.
    """
    recogniser = load_recogniser(config.asr, config.adapter, config.language, config.task)
    if isinstance(engine, LocalEngine):  # a cluster's workers may have what this machine lacks
        move(torch.zeros(()), config.device)  # before anything is written
    data = ShardedData.open(config.data, config.split, shard_rows)
    data.check_columns(config.data, [AUDIO, *COLUMNS], [TRANSCRIPT, SEGMENTS])
    if AUDIO in data.schema.names:
        codec = VQCodecModel.from_pretrained(config.codec).eval()
        operating_point(codec.config, num_quantizers=config.num_quantizers, bps=config.bps)
        made = codec.fingerprint()
    else:
        made = recogniser.codec_fingerprint
        if config.bps is not None:
            raise VqasrError("bps is for audio; codes have their rate. Use num_quantizers.")
        check_num_quantizers(config.num_quantizers, recogniser.embedder.config.num_quantizers)
    if made != recogniser.codec_fingerprint:
        raise CodecMismatchError(
            f"codec {config.codec} is {made.hex()}; the recogniser reads codes of "
            f"{recogniser.codec_fingerprint.hex()}. Give --codec or --adapter that fit."
        )
    about = json.loads((data.schema.metadata or {}).get(CODES_KEY, b"{}"))
    if about and about["codec"] != recogniser.codec_fingerprint.hex():
        raise CodecMismatchError(
            f"{list(config.data)}: holds codes of codec {about['codec']}; the recogniser reads "
            f"{recogniser.codec_fingerprint.hex()}. Tokenize the data with that codec."
        )
    shards = ShardFolder(os.fspath(folder), NAME, config.form, len(data.shards))
    settings = asdict(config) | {
        "shard_rows": shard_rows,
        "recogniser": recogniser.fingerprint().hex(),
        "embedder": recogniser.embedder_fingerprint().hex(),
        "codec": made.hex(),
        "data": data.fingerprint,
    }
    del settings["batch_size"], settings["device"]  # they change nothing but near-ties
    shards.begin(settings)
    start = partial(RowTranscriber, config)
    return process_shards(data, shards, config.split, start, engine, advance)


class RowTranscriber:
    """Transcribe the rows of a data set, see `RowWork`."""

    def __init__(self, config: TranscribeConfig):
        self._config = config
        recogniser = load_recogniser(config.asr, config.adapter, config.language, config.task)
        self._recogniser = recogniser.to(config.device)
        self._codec = VQCodecModel.from_pretrained(config.codec).eval()
        self.fields = [pa.field(TRANSCRIPT, pa.string())]
        if config.timestamps:
            numbers = {"start_s": pa.float64(), "end_s": pa.float64(), "text": pa.string()}
            self.fields.append(pa.field(SEGMENTS, pa.list_(pa.struct(numbers))))
        self.metadata: dict[bytes, bytes] = {}

    def __call__(self, rows: Iterator[dict[str, Any]]) -> Iterator[Added | VqasrError]:
        """Yield the transcript, or the error of a recording or stream."""
        while window := list(islice(rows, WINDOW_ROWS)):
            codes = [self._codes(row) for row in window]
            read = [clip for clip in codes if not isinstance(clip, VqasrError)]
            texts = iter(self._transcribe(read))
            yield from (clip if isinstance(clip, VqasrError) else [next(texts)] for clip in codes)

    def _codes(self, row: dict[str, Any]) -> np.ndarray | VqasrError:
        config = self._config
        try:
            if row.get(AUDIO) is not None or not set(COLUMNS) & set(row):
                return compress(
                    row_audio(row), codec=self._codec,
                    num_quantizers=config.num_quantizers, bps=config.bps,
                ).codes  # fmt: skip
            if row.get("vqs") is not None:
                header = StreamHeader.from_bytes(row["vqs"])
                header.check_codec(self._recogniser.codec_fingerprint)
            codes = row_codes(row)
            if (config.num_quantizers or 0) > len(codes):
                raise InvalidCodesError(
                    f"num_quantizers={config.num_quantizers}: the row has {len(codes)} codebooks."
                )
            codes = codes[: config.num_quantizers]
            self._recogniser.checked([codes])
        except VqasrError as error:
            return error
        return codes

    def _transcribe(self, clips: list[np.ndarray]) -> Added:
        size = self._config.batch_size
        if not self._config.timestamps:
            texts = self._recogniser.transcribe_codes(clips, size)
            return [{TRANSCRIPT: text} for text in texts]
        return [
            {
                TRANSCRIPT: " ".join(segment.text for segment in segments),
                SEGMENTS: [dataclasses.asdict(segment) for segment in segments],
            }
            for segments in self._recogniser.segments_of_codes(clips, size)
        ]
