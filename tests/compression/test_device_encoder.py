"""Batches on a device: the CPU's codes, but for near-ties, or a refusal."""

import pytest
import torch

from vqasr.compression.compress import encode_audio
from vqasr.compression.device_encoder import DeviceEncoder
from vqasr.compression.rates import operating_point
from vqasr.errors import CodecError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"
))]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rate", [{"num_quantizers": 4}, {"bps": 400}])
def test_codes_of_batches_are_those_of_single_clips(codec, clips, device, rate) -> None:
    point = operating_point(codec.config, **rate)
    own = [clip.samples[: 20_000 + 7_777 * i] for i, clip in enumerate(clips[:4])]
    own.insert(2, own[0][:1])
    encoder = DeviceEncoder(codec, device, point)
    found = encoder(own)
    differing = total = 0
    for codes, samples in zip(found, own, strict=True):
        expected = encode_audio(codec, samples, point.num_quantizers, point.bit_price)
        assert codes.shape == expected.shape
        differing, total = differing + (codes != expected).sum(), total + codes.size
    assert differing <= 0.02 * total


@pytest.mark.parametrize("device", DEVICES)
def test_near_ties_are_counted(codec, clips, device) -> None:
    encoder = DeviceEncoder(codec, device, operating_point(codec.config, num_quantizers=4))
    check = encoder.check([clip.samples for clip in clips[:2]])
    assert check.frames == sum(-(-len(clip.samples) // 640) for clip in clips[:2])
    assert check.ties <= 0.01 * check.frames


def test_a_device_that_computes_otherwise_is_refused(codec, clips) -> None:
    encoder = DeviceEncoder(codec, "cpu", operating_point(codec.config, num_quantizers=4))
    weights, before = encoder._encoder.to_latent.weight, codec.fingerprint()
    with torch.no_grad():  # as bfloat16 would compute
        weights.copy_(weights.bfloat16().float())
    with pytest.raises(CodecError, match=r"frames have other codes than on the CPU"):
        encoder.check([clips[0].samples])
    with pytest.raises(CodecError, match="device 'nonsense' cannot be used"):
        DeviceEncoder(codec, "nonsense", operating_point(codec.config, num_quantizers=4))
    assert codec.fingerprint() == before  # the device has a copy
