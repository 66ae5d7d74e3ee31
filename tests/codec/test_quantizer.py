"""The residual quantizer: training mends itself, prefixes are valid."""

import copy

import pytest
import torch

from vqasr.codec.nearest import nearest
from vqasr.codec.quantizer import ResidualVQ, bits_per_code
from vqasr.grid import STOP


def latents(frames: int = 4000, dim: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(40, dim, generator=generator) * 3
    pick = torch.randint(40, (frames,), generator=generator)
    return centres[pick] + 0.3 * torch.randn(frames, dim, generator=generator)


@pytest.fixture
def fitted() -> ResidualVQ:
    quantizer = ResidualVQ(3, 32, 6)
    quantizer.fit(latents(), torch.Generator().manual_seed(0))
    return quantizer


def error(quantizer: ResidualVQ, x: torch.Tensor, n: int) -> float:
    return float((quantizer.decode(quantizer.encode(x[None], n))[0] - x).square().mean())


def test_every_codebook_lowers_the_error(fitted) -> None:
    x = latents()
    errors = [error(fitted, x, n) for n in (1, 2, 3)]
    assert errors[0] > 1.2 * errors[1] > 1.3 * errors[2]
    assert errors[0] < 0.3 * float(x.var())


def test_encode_is_scalable_and_decode_ignores_missing_frames(fitted) -> None:
    x = latents(50)[None]
    assert torch.equal(fitted.encode(x, 3)[:, :2], fitted.encode(x, 2))
    codes = fitted.encode(x, 3)
    codes[..., 10:] = -1
    assert (fitted.decode(codes)[:, 10:] == 0).all()


def test_ema_follows_moving_latents(fitted) -> None:
    x = latents() + 2.0
    before = error(fitted, x, 3)
    fitted.train()
    mask = torch.ones(4, 1000, dtype=torch.bool)
    for _ in range(120):
        fitted(x.view(4, 1000, 6), torch.full((4,), 3), mask)
        fitted.update_codebooks(0.97)
    assert error(fitted, x, 3) < 0.5 * before


def test_a_revived_code_stays_where_it_was_put(fitted) -> None:
    """Its averages move with it: otherwise the next update would take it straight back."""
    fitted.train()
    x, mask = latents(1000)[None], torch.ones(1, 1000, dtype=torch.bool)

    def update() -> None:
        fitted(x, torch.tensor([3]), mask)
        fitted.update_codebooks(0.9)

    update()
    far = torch.full((6,), 1e3)
    fitted.codebooks[0, 5] = far
    fitted._averages.total[0, 5] = far * 1e-3
    fitted._averages.count[0, 5] = 1e-3
    update()
    placed = fitted.codebooks[0, 5].clone()
    assert placed.abs().max() < 50
    update()
    assert (fitted.codebooks[0, 5] - placed).norm() < 0.3 * placed.norm() + 0.3
    assert float(fitted._averages.count[0, 5]) > 0.1 * float(fitted._averages.count[0].mean())


def test_pieces_of_a_batch_move_the_codebooks_as_the_whole(fitted) -> None:
    fitted.train()
    pieces = copy.deepcopy(fitted)
    x = latents(1200).view(4, 300, 6)
    mask = torch.arange(300) < torch.tensor([300, 200, 250, 10])[:, None]
    levels = torch.tensor([3, 1, 2, 0])
    fitted(x, levels, mask)
    for part in (slice(0, 1), slice(1, 4)):
        pieces(x[part], levels[part], mask[part])
    for quantizer in (fitted, pieces):
        quantizer.update_codebooks(0.9)
    used = fitted._averages.count > 0.5  # others are revived, at random frames
    assert used.float().mean() > 0.8
    torch.testing.assert_close(pieces.codebooks[used], fitted.codebooks[used])


def test_levels_say_how_much_is_passed_on(fitted) -> None:
    fitted.eval()
    x = latents(100).view(4, 25, 6).requires_grad_()
    mask = torch.ones(4, 25, dtype=torch.bool)
    out = fitted(x, torch.tensor([0, 1, 2, 3]), mask)
    assert torch.equal(out.quantized[0], x[0])
    for row, n in enumerate((1, 2, 3), start=1):
        wanted = fitted.decode(out.codes[row : row + 1, :n])[0]
        torch.testing.assert_close(out.quantized[row], wanted)
    out.quantized.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))  # straight through


def test_gradients_pass_only_where_codes_describe_a_dimension(nested) -> None:
    nested.eval()
    x = latents(100).view(4, 25, 6).requires_grad_()
    mask = torch.ones(4, 25, dtype=torch.bool)
    nested(x, torch.tensor([0, 1, 2, 3]), mask).quantized.sum().backward()
    wanted = torch.ones_like(x)
    wanted[1:3, :, 4:] = 0.0  # one and two codebooks describe the base dimensions alone
    assert torch.equal(x.grad, wanted)


def test_commitment_counts_only_the_codebooks_in_use(fitted) -> None:
    fitted.eval()
    x = latents(100)[None]
    mask = torch.arange(100)[None] < 60
    assert float(fitted(x, torch.tensor([0]), mask).commitment) == 0.0
    for level in (1, 3):
        found = float(fitted(x, torch.tensor([level]), mask).commitment)
        wanted = sum(error(fitted, x[0, :60], n) for n in range(1, level + 1))
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.fixture
def nested() -> ResidualVQ:
    """Three codebooks, the first two of which describe 4 of 6 dimensions."""
    quantizer = ResidualVQ(3, 32, 6, base_dim=4)
    quantizer.fit(latents(), torch.Generator().manual_seed(0))
    return quantizer


def test_base_codebooks_say_nothing_of_the_other_dimensions(nested) -> None:
    x = latents()[None]
    for _ in range(3):
        nested(x, torch.tensor([3]), torch.ones(x.shape[:2], dtype=torch.bool))
        nested.update_codebooks(0.9)
    assert nested.training
    assert not nested.codebooks[:2, :, 4:].any()
    assert nested.codebooks[2, :, 4:].any()
    codes = nested.encode(x, 3)
    moved = x + torch.tensor([0, 0, 0, 0, 5.0, -5.0])
    assert torch.equal(nested.encode(moved, 2), codes[:, :2])
    left_over = [(nested.decode(codes[:, :n]) - x)[..., 4:].square().mean() for n in (1, 2, 3)]
    assert left_over[0] == left_over[1] == x[..., 4:].square().mean()
    assert left_over[2] < 0.7 * left_over[1]


def test_commitment_in_the_other_dimensions_begins_with_the_third_codebook(nested) -> None:
    nested.eval()
    x = latents(100)[None].requires_grad_()
    mask = torch.ones(1, 100, dtype=torch.bool)
    left_over = (x - nested.decode(nested.encode(x, 3)))[..., 4:].detach()
    for level in (0, 2, 3):
        loss = nested(x, torch.tensor([level]), mask).commitment
        gradient = torch.autograd.grad(loss, x)[0]
        outer = 2 * left_over / x.numel() if level == 3 else torch.zeros_like(left_over)
        torch.testing.assert_close(gradient[..., 4:], outer)
        assert bool(gradient[..., :4].any()) == bool(level)


def test_training_state_survives(fitted) -> None:
    fitted.train()
    x, mask = latents(500)[None], torch.ones(1, 500, dtype=torch.bool)
    fitted(x, torch.tensor([3]), mask)
    fitted.update_codebooks(0.9)
    other = ResidualVQ(3, 32, 6).train()
    other.load_state_dict(fitted.state_dict())
    other.load_training_state({k: v.clone() for k, v in fitted.training_state().items()})
    for quantizer in (fitted, other):
        torch.manual_seed(0)
        quantizer(x + 1, torch.tensor([3]), mask)
        quantizer.update_codebooks(0.9)
    assert torch.equal(fitted.codebooks, other.codebooks)


def test_nearest_is_the_nearest() -> None:
    x, c = torch.randn(200, 5), torch.randn(30, 5)
    assert torch.equal(nearest(x, c), torch.cdist(x, c).argmin(1))


def test_fit_says_when_there_is_too_little() -> None:
    with pytest.raises(ValueError, match="at least as many frames"):
        ResidualVQ(1, 64, 2).fit(torch.randn(10, 2), torch.Generator())


@pytest.mark.parametrize(("size", "bits"), [(1, 1), (2, 1), (1000, 10), (1024, 10), (1025, 11)])
def test_bits_per_code(size, bits) -> None:
    assert bits_per_code(size) == bits


def variable() -> ResidualVQ:
    quantizer = ResidualVQ(4, 16, 6, variable_depth=True)
    quantizer.fit(latents(), torch.Generator().manual_seed(0))
    return quantizer


def test_depth_falls_with_tolerance_and_a_stop_is_final() -> None:
    quantizer, x = variable(), latents()[None]
    errors, depths = [], []
    for tolerance in (0.0, 0.5, 2.0, 5.0, 1e9):
        codes = quantizer.encode(x, 4, tolerance)
        assert torch.equal(codes[:, :2], quantizer.encode(x, 2, tolerance))
        going_on = codes[:, 1:] != STOP
        assert bool((going_on[:, 1:] <= going_on[:, :-1]).all())
        depth = quantizer.depths(codes)
        assert torch.equal(depth, 1 + going_on.sum(1))
        error = (quantizer.decode(codes) - x).square().sum(-1)
        assert bool((error[depth < 4] <= tolerance).all())
        depths.append(float(depth.float().mean()))
        errors.append(float(error.mean()))
    assert (depths[0], depths[-1]) == (4.0, 1.0)
    assert depths == sorted(depths, reverse=True)
    assert errors == sorted(errors)


def test_the_stop_adds_nothing_and_stays_so() -> None:
    quantizer, x = variable().train(), latents()[None]
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    for _ in range(3):
        out = quantizer(x, torch.tensor([4]), mask, torch.tensor([0.4]))
        quantizer.update_codebooks(0.9)
    assert not quantizer.codebooks[1:, STOP].any()
    assert quantizer.codebooks[0, STOP].any()
    share = float((out.depths > 1).float().mean())
    assert abs(share - 0.4) < 0.02
    assert torch.equal(out.depths, quantizer.depths(out.codes))
    quantizer.eval()
    whole = quantizer(x, torch.tensor([2]), mask, torch.tensor([1.0]))
    assert bool((whole.depths == 2).all())
