"""The vocoder's excitation: the right frequencies, and phases that run on."""

import pytest
import torch

from vqasr.codec.convolution import StreamState
from vqasr.codec.excitation import NOISE_HOPS, Harmonics, Noise, minimum_phase


@pytest.mark.parametrize("pitch_hz", [62.5, 100.0, 250.0, 500.0])
def test_harmonics_are_cosines_of_amplitude_one(pitch_hz: float) -> None:
    samples = Harmonics()(torch.full((1, 400), pitch_hz), StreamState())[0].double()
    time = torch.arange(len(samples), dtype=torch.float64) / 16_000
    count = int(7600 // pitch_hz)
    wanted = sum(torch.cos(2 * torch.pi * k * pitch_hz * time) for k in range(1, count + 1))
    torch.testing.assert_close(samples, wanted, atol=1e-3, rtol=0)


def test_phases_run_on() -> None:
    pitch_hz = 80 + 300 * torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    harmonics, state = Harmonics(), StreamState()
    whole = harmonics(pitch_hz, StreamState())
    parts = [harmonics(part, state) for part in pitch_hz.split([1, 20, 0, 29], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-3, rtol=0)


def test_noise_runs_on() -> None:
    noise, state, like = Noise(), StreamState(), torch.zeros(2, 1)
    whole = noise(NOISE_HOPS + 5, like, StreamState())
    parts = [noise(hops, like, state) for hops in (3, 0, NOISE_HOPS + 2)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert torch.equal(whole[:, :160], whole[:, 160 * NOISE_HOPS : 160 * (NOISE_HOPS + 1)])
    assert float(whole.std()) == pytest.approx(1.0, abs=0.01)


def test_minimum_phase() -> None:
    """The phase of a filter with one pole inside the unit circle is its minimum phase."""
    omega = torch.arange(321) * torch.pi / 320
    response = 1 / (1 - 0.7 * torch.exp(-1j * omega))
    phase = minimum_phase(response.abs().log())
    torch.testing.assert_close(phase, response.angle(), atol=1e-3, rtol=0)
