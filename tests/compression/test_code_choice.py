"""Codes chosen for distance and bits together: the least sum, the same in pieces, real bytes."""

import numpy as np
import pytest
import torch
from prior_helpers import random_prior

from vqasr import VQCodecConfig, VQCodecModel
from vqasr.compression.choice import CodeChoice
from vqasr.compression.compress import encode_audio, encode_latents, stream_of
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import InvalidCodesError
from vqasr.grid import STOP
from vqasr.stream.stream import Stream


def made_up(codebook_size: int, variable_depth: bool) -> tuple[VQCodecModel, CodePrior]:
    """A codec of three random codebooks, two of which its prior predicts."""
    torch.manual_seed(0)
    codec = VQCodecModel(
        VQCodecConfig(
            num_quantizers=3, codebook_size=codebook_size, latent_dim=4, hidden_size=16,
            num_layers=1, num_fine_layers=1, variable_depth=variable_depth,
        )
    )  # fmt: skip
    prior = random_prior(codebook_size, codec=codec.fingerprint())
    return codec.eval(), prior


def cheapest(
    codec: VQCodecModel, prior: CodePrior, latents: torch.Tensor, n: int, price: float
) -> np.ndarray:
    """Every description of every frame, one after another, the best one kept."""
    size = codec.config.codebook_size
    chosen = np.zeros((n, 0), np.int64)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * n, indexing="ij")).reshape(n, -1)
    if codec.config.variable_depth:
        final = np.array([all(c[j] == STOP or c[j - 1] != STOP for j in range(2, n))
                          for c in grid.T])  # fmt: skip
        grid = grid[:, final]
    for latent in latents:
        best = np.inf
        for codes in grid.T:
            frames = np.concatenate([chosen, codes[:, None]], axis=1)
            quantized = codec.quantizer.decode(torch.from_numpy(codes)[None, :, None])[0, 0]
            distance = float((latent - quantized).square().sum())
            cost = distance + price * float(prior.bits(frames)[:, -1].sum())
            if cost < best:
                best, kept = cost, codes
        chosen = np.concatenate([chosen, kept[:, None]], axis=1)
    return chosen


@pytest.mark.parametrize(
    ("size", "n", "variable_depth"), [(16, 1, False), (2, 2, False), (2, 2, True)]
)
@pytest.mark.parametrize("price", [0.01, 0.3, 3.0])
def test_no_description_costs_less(
    size: int, n: int, variable_depth: bool, price: float
) -> None:  # with so few codes nothing is lost by following two descriptions only
    codec, prior = made_up(size, variable_depth)
    latents = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    choice = CodeChoice(codec, n, price, prior)
    found = choice.choose(latents).numpy()
    np.testing.assert_array_equal(found, cheapest(codec, prior, latents, n, price))


@pytest.mark.parametrize("variable_depth", [False, True])
def test_pieces_agree_and_stops_are_final(variable_depth: bool) -> None:
    codec, prior = made_up(16, variable_depth)
    latents = 0.3 * torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    whole = CodeChoice(codec, 3, 0.01, prior).choose(latents)
    choice = CodeChoice(codec, 3, 0.01, prior)
    pieces = [choice.choose(piece) for piece in latents.split([1, 0, 9, 33, 17])]
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    stopped = whole[1] == STOP
    if variable_depth:
        assert 0 < int(stopped.sum()) < len(stopped)
        assert int(whole[2, stopped].abs().sum()) == 0


def test_a_bit_that_costs_nothing_gives_the_nearest_codes(codec, clips) -> None:
    samples = clips[0].samples
    nearest = encode_audio(codec, samples, 1)
    assert (encode_audio(codec, samples, 1, bit_price=1e-7) != nearest).mean() < 1e-3


def test_bytes_fall_as_bits_become_dear(codec, clips) -> None:
    samples = clips[1].samples
    latents = encode_latents(codec, samples)
    sizes, errors = [], []
    for price in (0.0, 0.5, 1.0, 2.0, 4.0, 16.0):
        chosen = encode_audio(codec, samples, 4, price)
        data = stream_of(codec, chosen, len(samples)).to_bytes()
        codes = Stream.load(data).codes
        np.testing.assert_array_equal(codes, chosen)
        quantized = codec.quantizer.decode(torch.from_numpy(codes)[None])[0]
        sizes.append(len(data))
        errors.append(float((latents - quantized).square().sum()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert sizes[0] > 3 * sizes[-1]


def test_fewer_bits_than_stopping_alone_at_equal_distance(codec, clips) -> None:
    """What it is for: codes that stop by distance alone cost more."""
    samples = clips[2].samples
    latents = encode_latents(codec, samples)
    prior = bundled_prior(codec.fingerprint())

    def cost(codes: torch.Tensor) -> tuple[float, float]:
        error = latents - codec.quantizer.decode(codes[None])[0]
        return float(prior.bits(codes.numpy()).sum()), float(error.square().sum())

    bits, error = cost(CodeChoice(codec, 4, 1.0).choose(latents))
    for tolerance in np.linspace(0.0, 60.0, 121):
        other_bits, other_error = cost(codec.quantizer.encode(latents[None], 4, tolerance)[0])
        if other_error >= error:
            break
        assert other_bits > bits
    else:
        pytest.fail("no tolerance leaves as much distance")


def test_what_cannot_be_chosen_is_refused(codec, small_config, noise) -> None:
    with pytest.raises(InvalidCodesError, match=r"bit_price=-1.0: 0 or more"):
        encode_audio(codec, noise, 4, bit_price=-1.0)
    with pytest.raises(InvalidCodesError, match="bit_price=nan"):
        encode_audio(codec, noise, 4, bit_price=float("nan"))
    other = VQCodecModel(small_config).eval()
    with pytest.raises(InvalidCodesError, match="no prior is available"):
        encode_audio(other, noise, bit_price=1.0)
    with pytest.raises(InvalidCodesError, match="own prior"):
        encode_audio(other, noise, bit_price=1.0, prior=random_prior())
