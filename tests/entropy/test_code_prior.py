"""The code prior has the same integers on every machine, however they are computed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prior_helpers import (
    CODEC,
    PRIOR,
    golden_bytes,
    golden_codes,
    integers_only,
    likely_codes,
    random_prior,
)
from safetensors.numpy import load_file, save_file

from vqasr.entropy import prior_decoder
from vqasr.entropy.payload import decode_payloads, encode_payload, range_code
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import EXACT, CodePriorConfig
from vqasr.entropy.prior_decoder import PriorDecoder
from vqasr.errors import CodecError, InvalidCodesError
from vqasr.grid import STOP
from vqasr.training.prior_network import PriorNetwork, exp_table

# What the frozen prior makes of fixed codes. If this changes, streams that exist become unreadable:
# then it is not this line that has to change.
GOLDEN = (
    "a3e8a82fba3bd94cf3a295d3dfb12736c368c33f19be0b9a9feb806d8c0aab6c95b6725295ea931d"
    "17ff6574c80310934d955f4ee2731c9ccbfafa5752ba5696557f3de3d7123a5a4c3294b62f47c42a"
    "9d6ae06e8d35c3be4acb39432253f2670be327fb1bb1beef3cf8a6e2d32878d3edb25eb70b7fff24"
    "2f6e576e8ef98a64084a98f3b6c842f61bb8f0ece01c4eba3495efb36385762502156d0e5190bfc9"
    "24043a6ebf33e22caf189ce6ec78c09a667d3d05ff7d410c8aac267ed217ee4b53501c2c03ab76f2"
    "bbf4"
)
SCRIPT = """
import sys
sys.path.insert(0, {helpers!r})
from prior_helpers import golden_bytes
print(golden_bytes().hex())
assert "torch" not in sys.modules  # whose settings cannot matter then
"""


@pytest.mark.parametrize("n", [1, 2, 3])
def test_numpy_says_what_integers_say(n: int) -> None:
    codes = golden_codes()[:n, :25]
    expected = integers_only(PRIOR, codes)
    start, frequency, total = PRIOR.intervals(codes)
    for frame, rows in enumerate(expected):
        for j, row in enumerate(rows):
            code = int(codes[j, frame])
            assert total[j, frame] == sum(row)
            assert frequency[j, frame] == row[code]
            assert start[j, frame] == sum(row[:code])


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_frame_by_frame_is_all_frames_at_once(n: int, compiled: bool, monkeypatch) -> None:
    monkeypatch.setattr(prior_decoder, "KERNELS", "not loaded")
    monkeypatch.setattr(prior_decoder, "COMPILED_FROM_FRAMES", 0 if compiled else 10**9)
    prior = random_prior(codebook_size=64, width=48)
    chunks = [likely_codes(prior, n, 40, seed) for seed in range(3)]
    reader = PriorDecoder(prior, n, rows=3, frames=40)
    at_once = [prior.intervals(codes) for codes in chunks]
    for t in range(40):
        if t:
            reader.next_frame()
        for j in range(n):
            frequencies = reader.frequencies()
            for row, codes in enumerate(chunks):
                start, frequency, total = (a[j, t] for a in at_once[row])
                assert frequencies[row].sum() == total
                assert frequencies[row][codes[j, t]] == frequency
                assert frequencies[row][: codes[j, t]].sum() == start
            reader.add(np.array([codes[j, t] for codes in chunks]))


def test_any_number_of_chunks_is_read_together() -> None:
    chunks = [likely_codes(PRIOR, 2, 30, seed) for seed in range(40)]
    payloads = [encode_payload(codes, 4, PRIOR)[0] for codes in chunks]
    for codes, found in zip(chunks, decode_payloads(payloads, 2, 30, PRIOR), strict=True):
        np.testing.assert_array_equal(found, codes)
    one = decode_payloads(payloads[:1], 2, 30, PRIOR)[0]
    np.testing.assert_array_equal(one, chunks[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_after_a_stop_all_is_certain(share: float) -> None:
    prior = CodePrior(replace(PRIOR.config, variable_depth=True), PRIOR.tensors)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (3, 80))
    codes[1:] = rng.integers(1, 16, (2, 80)) * (rng.random(80) >= share)
    bits = prior.bits(codes)
    stopped = codes[1] == STOP
    assert bits[2, stopped].max(initial=0) < 1e-5
    np.testing.assert_array_equal(bits[:2], PRIOR.bits(codes)[:2])
    np.testing.assert_array_equal(bits[2, ~stopped], PRIOR.bits(codes)[2, ~stopped])


def test_frames_that_stop_are_written_and_read() -> None:
    prior = CodePrior(replace(PRIOR.config, variable_depth=True), PRIOR.tensors)
    codes = likely_codes(prior, 3, 300)
    stopped = codes[1] == STOP
    assert 0 < stopped.sum() < 300
    codes[2, stopped] = STOP
    payload, coded = encode_payload(codes, 4, prior)
    assert coded  # what is packed is read without the prior
    np.testing.assert_array_equal(decode_payloads([payload], 3, 300, prior)[0], codes)


def test_a_prior_without_variable_depth_keeps_its_name() -> None:
    assert "variable_depth" not in PRIOR.config.to_json()
    other = CodePrior(replace(PRIOR.config, variable_depth=True), PRIOR.tensors)
    assert other.fingerprint != PRIOR.fingerprint


def test_the_golden_bytes() -> None:
    assert golden_bytes().hex() == GOLDEN


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott"},  # SSE3, no FMA
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},  # AVX2 with FMA
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX"},
    ],
    ids=["one-thread", "two-threads", "no-fma", "fma", "no-avx512"],
)
def test_other_machines_make_the_same_bytes(environment: dict[str, str]) -> None:
    """OpenBLAS and numpy can be told to compute as on other processors."""
    script = SCRIPT.format(helpers=str(Path(__file__).parents[1] / "helpers"))
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | environment
    )
    assert result.stdout.strip() == GOLDEN, result.stderr


def test_cross_entropy_is_what_the_coder_spends() -> None:
    codes = likely_codes(PRIOR, 3, 400)
    bits = PRIOR.bits(codes)
    assert bits.shape == codes.shape
    assert abs(8 * len(range_code(codes, PRIOR)) - bits.sum()) < 10
    assert bits.sum() < 0.95 * 4 * codes.size


def test_saving_and_loading(tmp_path: Path) -> None:
    PRIOR.save_pretrained(tmp_path)
    again = CodePrior.from_pretrained(tmp_path)
    assert again.fingerprint == PRIOR.fingerprint
    assert again.config == PRIOR.config
    assert random_prior(scale=101.0).fingerprint != PRIOR.fingerprint
    assert (tmp_path / "prior.safetensors").stat().st_mode & 0o444 == 0o444
    reversed_dilations = replace(PRIOR.config, dilations=PRIOR.config.dilations[::-1])
    assert CodePrior(reversed_dilations, PRIOR.tensors).fingerprint != PRIOR.fingerprint
    with pytest.raises(CodecError, match="dilations"):
        CodePrior(replace(PRIOR.config, dilations=(0, 1, 2)), PRIOR.tensors)


def test_what_is_no_prior_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="cannot be loaded"):
        CodePrior.from_pretrained(tmp_path)
    PRIOR.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "prior.safetensors")
    save_file(tensors, tmp_path / "prior.safetensors", {"config": "{}"})
    with pytest.raises(CodecError, match="cannot be loaded"):
        CodePrior.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("start", None, "differ in"),
        ("start", lambda t: t.astype(np.int32), "int32"),
        ("start", lambda t: t[:-1], "start"),
        ("head.0.in.bias", lambda t: t + EXACT, "exact below"),
        ("exp_table", lambda t: t * 0, "exp_table"),
    ],
)
def test_weights_that_could_round_are_refused(name: str, change, problem: str) -> None:
    tensors = dict(PRIOR.tensors)
    value = tensors.pop(name)
    if change is not None:
        tensors[name] = change(value)
    with pytest.raises(CodecError, match=problem):
        CodePrior(PRIOR.config, tensors)


@pytest.mark.parametrize("codes", [np.zeros((4, 2), int), np.zeros(3, int), np.full((1, 2), 16)])
def test_codes_that_it_does_not_know(codes: np.ndarray) -> None:
    with pytest.raises(InvalidCodesError):
        PRIOR.intervals(codes)


def test_no_frames() -> None:
    assert PRIOR.bits(np.zeros((2, 0), int)).shape == (2, 0)
    assert range_code(np.zeros((2, 0), int), PRIOR) == b""


def test_the_network_in_training_is_the_integer_prior() -> None:
    torch.manual_seed(0)
    config = CodePriorConfig(3, 32, CODEC.hex(), 2, width=24, head_size=16, dilations=(1, 2))
    network = PriorNetwork(config).eval()
    codes = torch.randint(32, (1, 3, 50))
    with torch.no_grad():
        for layer in (m for m in network.modules() if hasattr(m, "bias")):
            layer.bias.uniform_(-0.2, 0.2)
        network.count(codes[0])
        logits = network(codes, [0, 1])
    bits = network.to_prior().bits(codes[0].numpy())
    for j, values in enumerate(logits):
        nats = torch.nn.functional.cross_entropy(values[0], codes[0, j], reduction="none")
        # The table has steps of 1/32 nat.
        np.testing.assert_allclose(bits[j], nats.numpy() / np.log(2), atol=0.06)
    counts = np.bincount(codes[0, 2].numpy(), minlength=32) + 0.5
    expected = np.log2(counts.sum() / counts)[codes[0, 2].numpy()]
    np.testing.assert_allclose(bits[2], expected, atol=0.06)


def test_the_table_of_exp_falls_to_one() -> None:
    table = exp_table()
    assert table[0] == 65536
    assert table[-1] == 1
    assert (np.diff(table) <= 0).all()
