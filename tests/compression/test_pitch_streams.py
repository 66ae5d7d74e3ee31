"""Streams with the fundamental frequency: written, cut, joined, damaged, decoded, and live."""

import io

import numpy as np
import pytest
import soundfile
from cli_helpers import vqasr

from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.audio.pitch import track_pitch
from vqasr.audio.pitch_tracker import LOOKAHEAD_SAMPLES, track_codes
from vqasr.compression.compress import LiveDecoder, compress, decode
from vqasr.errors import CorruptStreamError, InvalidCodesError, StreamError
from vqasr.evaluation.packet_loss import ChunkLoss, drop_chunks
from vqasr.stream.stream import Stream

CLIP = CLIPS / "clip01_af_heart.flac"


@pytest.fixture(scope="module", params=[None, 5])
def stream(codec, request) -> Stream:
    return compress(CLIP, codec=codec, num_quantizers=2, chunk_frames=request.param, pitch=True)


def test_written_and_read(stream) -> None:
    data = stream.to_bytes()
    again = Stream.load(data)
    assert again.header.pitch
    assert again.pitch.tolist() == stream.pitch.tolist() == track_codes(read_audio(CLIP)).tolist()
    assert (again.codes == stream.codes).all()
    assert again.to_bytes() == data
    plain = stream.trim(2, pitch=False)
    extra_bps = 8 * (len(data) - len(plain.to_bytes())) / stream.seconds
    # Chunks of 0.2 s have a byte for the size of each.
    assert 20 < extra_bps < (110 if stream.header.chunk_frames > 5 else 180)
    assert Stream.load(plain.to_bytes()).pitch is None


def test_parts(stream) -> None:
    part = Stream.load(stream.to_bytes(), start_s=1.0, end_s=2.0)
    assert part.pitch.tolist() == stream.pitch[25:50].tolist()
    assert stream.cut(1.0, 2.0).pitch.tolist() == stream.pitch[25:50].tolist()
    one = stream.trim(1)
    joined = Stream.join([one.cut(0.0, 2.0), one.cut(2.0)])
    assert joined.to_bytes() == one.to_bytes()
    with pytest.raises(StreamError, match="no pitch, the first"):
        Stream.join([one, one.trim(1, pitch=False)])


def test_every_damaged_byte_is_noticed(stream) -> None:
    data = stream.cut(0.0, 1.0).to_bytes()
    for place in range(len(data)):
        for change in (1, 0x80):
            bad = bytearray(data)
            bad[place] ^= change
            with pytest.raises(StreamError):
                Stream.load(bytes(bad))
    for length in range(len(data)):
        with pytest.raises(StreamError):
            Stream.load(data[:length])


def test_lost_chunks(codec, stream) -> None:
    if stream.header.chunk_frames > 5:
        pytest.skip("a single chunk is lost whole")
    data = drop_chunks(stream.to_bytes(), ChunkLoss.parse("30"), np.random.default_rng(1))
    with pytest.raises(CorruptStreamError):
        Stream.load(data)
    intact = Stream.load(data, partial=True)
    kept = intact.codes[0] >= 0
    assert 0.4 < kept.mean() < 1
    assert intact.pitch[kept].tolist() == stream.pitch[: intact.frames][kept].tolist()
    assert not intact.pitch[~kept].any()
    assert np.isfinite(decode(intact, codec=codec)).all()


def test_decoded_audio_has_the_pitch(codec, stream) -> None:
    wanted, whole = track_pitch(read_audio(CLIP)), decode(stream, codec=codec)
    errors = {}
    for pitch in (True, False):
        got = track_pitch(decode(stream.trim(2, pitch=pitch), codec=codec))
        both = (wanted > 0) & (got > 0)
        errors[pitch] = np.median(np.abs(1200 * np.log2(got[both] / wanted[both])))
    assert errors[True] < 35 < errors[False]
    decoder = LiveDecoder(codec)
    pieces = [
        decoder.push(stream.codes[:, i : i + 3], stream.pitch[i : i + 3])
        for i in range(0, stream.frames, 3)
    ]
    live = np.concatenate([*pieces, decoder.finish()])
    np.testing.assert_allclose(live[: len(whole)], whole, atol=5e-3)


def test_live_as_a_file(codec, tmp_path) -> None:
    samples = read_audio(CLIP)
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    live = vqasr("encode", "-", "-o", "-", "-n", 2, "--pitch", stdin=file.getvalue()).stdout
    vqasr("encode", CLIP, "-o", tmp_path / "a.vqs", "-n", 2, "--pitch", "--chunk-s", 0.2)
    ways = [Stream.load(live), Stream.load(tmp_path / "a.vqs")]
    assert (ways[0].codes == ways[1].codes).all()
    assert ways[0].pitch.tolist() == ways[1].pitch.tolist()
    assert '"pitch": true' in vqasr("info", tmp_path / "a.vqs", "--json").stdout
    wav = vqasr("decode", "-", "-o", "-", stdin=live).stdout
    decoded, _ = soundfile.read(io.BytesIO(wav))
    np.testing.assert_allclose(decoded, decode(Stream.load(live), codec=codec), atol=5e-3)
    vqasr("trim", tmp_path / "a.vqs", "-n", 1, "--no-pitch", "-o", tmp_path / "b.vqs")
    assert Stream.load(tmp_path / "b.vqs").pitch is None
    assert codec.config.lookahead_samples >= LOOKAHEAD_SAMPLES


def test_refused(stream) -> None:
    wrong = Stream(stream.header, stream.codes, stream.samples)
    with pytest.raises(InvalidCodesError, match="needs pitch"):
        wrong.to_bytes()
    with pytest.raises(InvalidCodesError, match=r"0 \(unvoiced\) to 74"):
        Stream(stream.header, stream.codes, stream.samples, pitch=stream.pitch + 75).to_bytes()
