"""Transcribing data sets: settings are checked before any work, rows that lack codes left out."""

import pytest
from datasets import Dataset

from vqasr.adapters.transcribe_data import TranscribeConfig, transcribe_data
from vqasr.assets import CLIPS
from vqasr.codec.modeling import VQCodecModel
from vqasr.data.tokenized import TokenizeConfig, tokenize
from vqasr.errors import CodecMismatchError, InvalidCodesError, RecogniserError, VqasrError

CLIP = "clip01_af_heart.flac"


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("audio") / "audio.parquet"
    Dataset.from_list([{"audio": {"bytes": (CLIPS / CLIP).read_bytes()}}]).to_parquet(path)
    return str(path)


def test_refused_before_any_work(audio, codec, tmp_path) -> None:
    other = VQCodecModel(codec.config)
    other.save_pretrained(tmp_path / "other")
    tokenize(TokenizeConfig((audio,), num_quantizers=2), tmp_path / "codes")
    codes = str(tmp_path / "codes")
    for data, settings, error, message in (
        (audio, {"codec": str(tmp_path / "other")}, CodecMismatchError, "Give --codec"),
        (audio, {"num_quantizers": 99}, InvalidCodesError, "num_quantizers=99"),
        (codes, {"num_quantizers": -1}, InvalidCodesError, "num_quantizers=-1"),
        (codes, {"bps": 300.0}, VqasrError, "bps is for audio"),
        (codes, {"device": "abacus"}, RecogniserError, "device 'abacus' cannot be used"),
    ):
        with pytest.raises(error, match=message):
            transcribe_data(
                TranscribeConfig((data,), asr="ctc-small", **settings), tmp_path / "text"
            )
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize("column", ["codes", "vqs"])
def test_rows_without_codes_are_left_out(column, audio, tmp_path) -> None:
    tokenize(TokenizeConfig((audio,), num_quantizers=2, column=column), tmp_path / "codes")
    rows = Dataset.from_parquet([str(p) for p in (tmp_path / "codes").glob("*.parquet")]).to_list()
    missing = rows[0] | {column: None}
    Dataset.from_list([rows[0], missing]).to_parquet(tmp_path / "some.parquet")
    config = TranscribeConfig((str(tmp_path / "some.parquet"),), asr="ctc-small", num_quantizers=2)
    (message,) = transcribe_data(config, tmp_path / "text")
    assert "row 1: the row has neither codes nor a stream" in message
    config = TranscribeConfig(config.data, asr="ctc-small", num_quantizers=4)
    messages = transcribe_data(config, tmp_path / "more")
    assert "num_quantizers=4: the row has 2 codebooks" in messages[0]
