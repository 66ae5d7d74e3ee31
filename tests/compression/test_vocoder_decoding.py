"""Decoding with a vocoder: whole, piece by piece, and from pipe to pipe."""

import io
from dataclasses import replace

import numpy as np
import pystoi
import pytest
import soundfile
import torch
from cli_helpers import vqasr

from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.codec.vocoder import Vocoder, VocoderConfig, load_vocoder
from vqasr.compression.compress import LiveDecoder, compress, decode
from vqasr.errors import CodecError, CodecMismatchError, InvalidCodesError, StreamError
from vqasr.grid import MISSING
from vqasr.stream.stream import Stream

SIZES = {"hidden_size": 16, "num_layers": 2, "fine_hidden_size": 12, "num_fine_layers": 1}


@pytest.fixture(scope="module")
def folder(codec, tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vocoder")
    vocoder = Vocoder(VocoderConfig(codec_fingerprint=codec.fingerprint().hex(), **SIZES))
    torch.nn.init.normal_(vocoder.missing_frame)
    torch.nn.init.constant_(vocoder.gain_head.bias, -6.0)  # about as loud as speech
    torch.nn.init.normal_(vocoder.gain_head.weight, std=0.02)
    vocoder.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def stream(codec) -> Stream:
    return compress(CLIPS / "clip01_af_heart.flac", codec=codec, num_quantizers=2, chunk_frames=5)


def test_piece_by_piece_as_whole(codec, folder, stream) -> None:
    whole = decode(stream, codec=codec, vocoder=folder)
    assert len(whole) == stream.samples
    decoder = LiveDecoder(codec, folder)
    assert decoder.lookahead_s == 0.04
    pieces = [decoder.push(stream.codes[:, i : i + 7]) for i in range(0, stream.frames, 7)]
    live = np.concatenate([*pieces, decoder.finish()])
    np.testing.assert_allclose(live[: len(whole)], whole, atol=1e-3)


def test_pipe_to_pipe(codec, folder, stream) -> None:
    data = stream.to_bytes()
    wav = vqasr("decode", "-", "-o", "-", "--vocoder", folder, stdin=data).stdout
    samples, rate_hz = soundfile.read(io.BytesIO(wav))
    assert rate_hz == 16_000
    np.testing.assert_allclose(samples, decode(stream, codec=codec, vocoder=folder), atol=1e-3)
    cut = vqasr("decode", "-", "-o", "-", "--vocoder", folder, stdin=data[:300], ok=False)
    assert "ends before its last chunk" in cut.stderr
    frames = Stream.load(data[:300], partial=True).frames
    assert len(cut.stdout) == 44 + 2 * 640 * frames
    partial = vqasr("decode", "-", "-o", "-", "--partial", "--vocoder", folder, stdin=data[:300])
    assert partial.stdout == cut.stdout


def test_lost_chunks_are_guessed(codec, folder, stream) -> None:
    lossy = without_chunk(stream.to_bytes())
    content = Stream.load(lossy, partial=True)
    lost = content.codes[0] == MISSING
    assert 0 < lost.sum() <= 5
    audio = decode(content, codec=codec, vocoder=folder)
    assert np.abs(audio[np.repeat(lost, 640)[: len(audio)]]).max() > 0
    wav = vqasr("decode", "-", "-o", "-", "--partial", "--vocoder", folder, stdin=lossy).stdout
    samples, _ = soundfile.read(io.BytesIO(wav))
    np.testing.assert_allclose(samples, audio, atol=3e-4)
    silent = decode(content, codec=codec, vocoder="griffin-lim")
    assert np.abs(silent[np.repeat(lost, 640)[: len(silent)]]).max() == 0


def without_chunk(data: bytes) -> bytes:
    """Damage a byte in the middle, so that its chunk is lost."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def test_refused(codec, folder, stream, tmp_path) -> None:
    Vocoder(VocoderConfig(codec_fingerprint="00" * 6, **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(CodecMismatchError, match="trained for codec 000000000000"):
        decode(stream, codec=codec, vocoder=tmp_path)
    with pytest.raises(CodecError, match="griffin-lim"):
        decode(stream, codec=codec, vocoder="nowhere")
    with pytest.raises(CodecError, match="cannot decode while codes come in"):
        LiveDecoder(codec, "griffin-lim")


def test_streams_that_are_not_the_codecs(codec, folder, stream) -> None:
    for change in ({"hop_length": 160}, {"bits_per_code": 16}):
        forged = replace(stream, header=replace(stream.header, **change))
        with pytest.raises(CodecMismatchError, match=f"{next(iter(change))}="):
            decode(forged, codec=codec, vocoder=folder)
    many = np.zeros((9, stream.frames), np.int64)
    forged = replace(stream, header=replace(stream.header, num_quantizers=9), codes=many)
    with pytest.raises(CodecMismatchError, match="num_quantizers=9"):
        decode(forged, codec=codec, vocoder=folder)
    live = LiveDecoder(codec, folder)
    with pytest.raises(InvalidCodesError, match="10 bits per code allow"):
        live.push(stream.codes + 1024)
    live.push(stream.codes)
    live.finish()
    for again in (live.finish, lambda: live.push(stream.codes)):
        with pytest.raises(CodecError, match="finished"):
            again()


def test_what_decode_and_compress_take(codec, folder, stream, tmp_path) -> None:
    stream.save(tmp_path / "talk.vqs")
    expected = decode(stream, codec=codec, vocoder=folder)
    for source in (tmp_path / "talk.vqs", stream.to_bytes()):
        np.testing.assert_array_equal(decode(source, codec=codec, vocoder=folder), expected)
    second = np.full(16_000, 0.1, np.float32)
    for wrong in ({"num_quantizers": 4.0}, {"num_quantizers": "4"}, {"bps": "300"}):
        with pytest.raises(InvalidCodesError):
            compress(second, codec=codec, **wrong)
    with pytest.raises(StreamError, match="Use shorter chunks"):
        compress(second, codec=codec, chunk_frames=3000)


def test_the_bundled_vocoder_is_the_default(codec, stream, small_config) -> None:
    audio = decode(stream, codec=codec)
    assert len(audio) == stream.samples
    np.testing.assert_array_equal(audio, decode(stream, codec=codec, vocoder="vqasr-base-vocoder"))
    assert load_vocoder(None, b"others") is None  # another codec has Griffin-Lim
    assert load_vocoder("griffin-lim", codec.fingerprint()) is None
    # Better than Griffin-Lim, by far.
    recorded = read_audio(CLIPS / "clip01_af_heart.flac")
    four = compress(recorded, codec=codec, num_quantizers=4)
    scores = [
        pystoi.stoi(recorded, decode(four, codec=codec, vocoder=v), 16_000, extended=True)
        for v in (None, "griffin-lim")
    ]
    assert scores[0] > scores[1] > 0.3, scores
