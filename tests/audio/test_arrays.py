"""Every shape and type of samples is understood, or refused clearly, at every entry alike."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vqasr import VQCodecFeatureExtractor, compress, load_audio
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.audio.arrays import to_mono
from vqasr.compression.compress import LiveEncoder, encode_audio
from vqasr.errors import AudioError, AudioWarning

RNG = np.random.default_rng(0)
MONO = (0.1 * RNG.standard_normal(4000)).astype(np.float32)
LEFT, RIGHT = MONO, (0.1 * RNG.standard_normal(4000)).astype(np.float32)
MEAN = (LEFT + RIGHT) / 2
STEREO = np.stack([LEFT, RIGHT])

UNDERSTOOD = {
    "mono": (MONO, MONO),
    "channels first": (STEREO, MEAN),
    "channels last": (STEREO.T, MEAN),
    "one channel first": (MONO[None], MONO),
    "one channel last": (MONO[:, None], MONO),
    "eight channels": (np.tile(MONO, (8, 1)), MONO),
    "list": (MONO.tolist(), MONO),
    "tuple": (tuple(MONO.tolist()), MONO),
    "list of numpy numbers": (list(MONO), MONO),
    "tensor": (torch.from_numpy(MONO), MONO),
    "tensor, channels last": (torch.from_numpy(STEREO).T, MEAN),
    "tensor with gradient": (torch.from_numpy(MONO).clone().requires_grad_(), MONO),
    "bfloat16": (torch.from_numpy(MONO).bfloat16(), torch.from_numpy(MONO).bfloat16().float()),
    "half": (MONO.astype(np.float16), MONO.astype(np.float16).astype(np.float32)),
    "double": (MONO.astype(np.float64), MONO),
    "long double": (MONO.astype(np.longdouble), MONO),
    "big endian": (MONO.astype(">f4"), MONO),
    "negative stride": (MONO[::-1], MONO[::-1].copy()),
    "stride": (np.repeat(MONO, 2)[::2], MONO),
    "Fortran order": (np.asfortranarray(STEREO), MEAN),
    "read only": (np.frombuffer(MONO.tobytes(), np.float32), MONO),
}
REFUSED = {
    "nothing": ([], "no samples|empty"),
    "scalar": (np.float32(0.1), "shape"),
    "three axes": (np.zeros((2, 2, 4000), np.float32), "shape"),
    "square": (np.zeros((20, 20), np.float32), "told apart"),
    "many rows": (np.zeros((100, 200), np.float32), "told apart"),
    "int16": ((MONO * 32767).astype(np.int16), "32768"),
    "scale of int16": (MONO * 32767, "32768"),
    "bool": (MONO > 0, "type bool"),
    "complex": (MONO + 1j, "type complex"),
    "objects": (np.array([None, 0.1]), "type object"),
    "int tensor": (torch.ones(4000, dtype=torch.int32), "type int32"),
    "NaN": (np.where(np.arange(4000) == 7, np.nan, MONO), "sample 7 is nan"),
    "infinite in float32": (np.full(4000, 1e300), "infinite"),
    "ragged": ([[0.1, 0.2], [0.3]], "array of samples|samples of type|told apart|shape"),
}


@pytest.fixture(scope="module")
def entries(codec) -> dict[str, Callable]:
    extractor, codes = VQCodecFeatureExtractor(), CodesFeatureExtractor()
    codes._model = codec

    def live(samples) -> np.ndarray:
        encoder = LiveEncoder(codec)
        return np.concatenate([encoder.push(samples), encoder.finish()], axis=1)

    def extract(samples) -> np.ndarray:
        inputs = extractor(samples, sampling_rate=16_000)
        return codec.encode(**inputs).audio_codes.numpy()[0]

    return {
        "encode_audio": lambda samples: encode_audio(codec, samples),
        "compress": lambda samples: compress(samples, codec=codec, num_quantizers=8).codes,
        "LiveEncoder": live,
        "VQCodecFeatureExtractor": extract,
        "CodesFeatureExtractor": lambda samples: codes(samples)["input_values"][0].numpy().T,
        "dictionary": lambda samples: (
            compress(
                {"array": samples, "sampling_rate": 16_000}, codec=codec, num_quantizers=8
            ).codes
        ),
    }


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_understood(kind) -> None:
    samples, expected = UNDERSTOOD[kind]
    for converted in (to_mono(samples), load_audio(samples)):
        assert converted.dtype == np.float32
        assert converted.flags.c_contiguous
        assert converted.flags.writeable
        np.testing.assert_allclose(converted, expected, atol=1e-7)


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_all_entries_agree(kind, entries) -> None:
    samples, expected = UNDERSTOOD[kind]
    codes = {name: entry(samples) for name, entry in entries.items()}
    wanted = encode_audio_of(entries, to_mono(np.asarray(expected)))
    for name, got in codes.items():
        # Averaging by numpy and here may differ in the last bit, and near-ties with it.
        assert (got == wanted).mean() > 0.99, name


def encode_audio_of(entries, samples) -> np.ndarray:
    return entries["encode_audio"](samples)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_at_every_entry(kind, entries) -> None:
    samples, message = REFUSED[kind]
    with pytest.raises(AudioError, match=message):
        to_mono(samples)
    for name, entry in entries.items():
        if name == "LiveEncoder" and kind == "nothing":
            continue  # an empty chunk is no error
        if kind == "ragged" and "Extractor" in name:
            continue  # a list of lists is a list of clips
        with pytest.raises(AudioError):
            entry(samples)


def test_channels_of_opposite_phase() -> None:
    with pytest.warns(AudioWarning, match="cancel each other"):
        np.testing.assert_array_equal(to_mono(np.stack([MONO, -MONO])), MONO)
    with pytest.warns(AudioWarning, match="channel 2 is used"):
        np.testing.assert_array_equal(to_mono(np.stack([0.99 * MONO, -MONO])), -MONO)


def test_silent_and_independent_channels_are_averaged(recwarn) -> None:
    np.testing.assert_allclose(to_mono(np.stack([MONO, 0 * MONO])), MONO / 2)
    to_mono(RNG.standard_normal((8, 4000)))
    to_mono(np.zeros((2, 4000)))
    assert not recwarn


def test_one_clip_and_a_list_of_clips(entries, codec) -> None:
    extractor = VQCodecFeatureExtractor()
    for one in (MONO, MONO.tolist(), torch.from_numpy(MONO), STEREO.T):
        assert extractor(one, sampling_rate=16_000)["input_values"].shape == (1, 1, 4000)
    assert extractor([MONO, STEREO], sampling_rate=16_000)["input_values"].shape == (2, 1, 4000)
