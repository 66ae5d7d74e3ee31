"""The code prior one frame at a time, compiled with numba.

A frame takes some two dozen layers of one row each. numpy took two to three times as long: it
multiplies floats, four times the bytes, and calls a function for every step. All arithmetic is on
integers. `CodePrior.intervals` computes the same for all frames at once; the tests compare it with
Python's own integers, and these kernels with it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from vqasr.entropy.prior_config import (
    ACTIVATION_SCALE,
    HIGHEST,
    LOGIT_STEPS,
    TABLE_SIZE,
    WEIGHT_SCALE,
)

_HALF = WEIGHT_SCALE // 2
_STEP = WEIGHT_SCALE * ACTIVATION_SCALE // LOGIT_STEPS  # of logits, for one entry of the table


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, cached on disk where a cache folder can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(nogil=True)(function)


@compiled
def _layer(weight, bias, inputs, outputs):  # type: ignore[no-untyped-def]
    for i in range(weight.shape[0]):
        total = np.int32(bias[i])
        for k in range(weight.shape[1]):
            total += np.int32(weight[i, k]) * np.int32(inputs[k])
        outputs[i] = total


@compiled
def _rounded(sums, lowest, outputs):  # type: ignore[no-untyped-def]
    """Sums to activations, halves rounded up."""
    for i in range(len(sums)):
        outputs[i] = min(max((sums[i] + _HALF) // WEIGHT_SCALE, lowest), HIGHEST)


@compiled
def next_context(  # type: ignore[no-untyped-def]
    first, first_bias, second, second_bias, dilations, past, frame, sums, context
):
    """Compute the context of the next frame.

    Args:
        first, second: (blocks, width, 2 x width) and (blocks, width, width) int8 weights.
        first_bias, second_bias: (blocks, width) int32.
        dilations: (blocks,) int64.
        past: (sum of dilations, rows, width) int16, each block's last inputs; updated.
        frame: number of the frame.
        sums: (rows, width) int32, input of the first block; overwritten.
        context: (rows, width) int16, output.
    """
    width = sums.shape[1]
    inputs = np.empty(2 * width, np.int16)
    inner = np.empty(width, np.int16)
    outputs = np.empty(width, np.int32)
    for row in range(len(sums)):
        begin = 0
        for block in range(len(dilations)):
            slot = begin + frame % dilations[block]
            begin += dilations[block]
            _rounded(sums[row], -HIGHEST, inputs[:width])
            inputs[width:] = past[slot, row]
            past[slot, row] = inputs[:width]
            _layer(first[block], first_bias[block], inputs, outputs)
            _rounded(outputs, 0, inner)
            _layer(second[block], second_bias[block], inner, outputs)
            sums[row] += outputs
        _rounded(sums[row], -HIGHEST, context[row])


@compiled
def head_logits(  # type: ignore[no-untyped-def]
    first, first_bias, middle, middle_bias, last, last_bias, context, below, logits
):
    """Compute the logits of one codebook's entries for one row.

    Args:
        first, middle, last: (head_size, 2 x width), (head_size, head_size) and (codebook_size,
            head_size) int8 weights, each with its int32 bias.
        context: (width,) int16.
        below: (width,) int32, sum of the embeddings of the lower codebooks' codes.
        logits: (codebook_size,) int32, output.
    """
    width = len(context)
    inputs = np.empty(2 * width, np.int16)
    inner = np.empty(len(first), np.int16)
    sums = np.empty(len(first), np.int32)
    inputs[:width] = context
    for k in range(width):
        inputs[width + k] = min(max(below[k], -HIGHEST), HIGHEST)
    _layer(first, first_bias, inputs, sums)
    _rounded(sums, 0, inner)
    _layer(middle, middle_bias, inner, sums)
    for k in range(len(inner)):
        sums[k] += WEIGHT_SCALE * np.int32(inner[k])
    _rounded(sums, 0, inner)
    _layer(last, last_bias, inner, logits)


@compiled
def table_entry(top, logit):  # type: ignore[no-untyped-def]
    """Return the table's index for a logit, given the highest logit `top`."""
    return min((top - logit) // _STEP, TABLE_SIZE - 1)


@compiled
def head(  # type: ignore[no-untyped-def]
    first, first_bias, middle, middle_bias, last, last_bias, table, context, below, frequencies
):
    """Compute the frequencies of one codebook's entries for several rows.

    Args:
        first, ..., last_bias: as in `head_logits`.
        table: (TABLE_SIZE,) int64.
        context: (rows, width) int16.
        below: (rows, width) int32.
        frequencies: (rows, codebook_size) int64, output.
    """
    logits = np.empty(len(last), np.int32)
    for row in range(len(context)):
        head_logits(
            first, first_bias, middle, middle_bias, last, last_bias, context[row], below[row],
            logits,
        )  # fmt: skip
        top = logits.max()
        for k in range(len(logits)):
            frequencies[row, k] = table[table_entry(top, logits[k])]
