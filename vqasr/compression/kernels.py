"""The compiled inner loop of `CodeChoice`: codes of the least error and bits together."""

import numpy as np

from vqasr.entropy.kernels import compiled, head_logits, next_context, table_entry
from vqasr.entropy.prior_config import WEIGHT_SCALE
from vqasr.grid import STOP

# Width of the beam search from codebook to codebook. With one path, Whisper's decoder diverges 2 to
# 8 % more; four gain nothing over two (docs/lab-book.md).
PATHS = 2


@compiled
def choose(  # type: ignore[no-untyped-def]
    latents, codebooks, squares, described, price, may_stop, blocks, heads, log_table, table,
    fixed_bits, embedding, level, dilations, past, below, frame, codes
):  # fmt: skip
    """Choose the codes of the next frames of a stream.

    Args:
        latents: (frames, dim) float32.
        codebooks: (n, dim, codebook_size) float32.
        squares: (n, codebook_size) float32, squared norms of their entries.
        described: (n,) int64, the number of first dimensions that a codebook uses; the others are
            0.
        price: squared error per bit.
        may_stop: whether code 0 ends a frame.
        blocks, heads: weights of the prior, as `next_context` and `head_logits` take them; for
            heads with a first axis of codebooks.
        log_table, table: (TABLE_SIZE,) float32 and int64, log2 of the frequencies, and frequencies.
        fixed_bits: (codebooks without a head, codebook_size) float32.
        embedding, level: of the prior, int32.
        dilations: (blocks,) int64.
        past, below: state of the prior; updated.
        frame: number of the first frame in the stream.
        codes: (n, frames) int64, output.
    """
    n, dim, size = codebooks.shape
    width = below.shape[1]
    modelled = len(heads[0])
    sums = np.empty((1, width), np.int32)
    context = np.empty((1, width), np.int16)
    logits = np.empty(size, np.int32)
    bits = np.empty(size, np.float32)
    cost = np.empty(size, np.float32)
    # State of the paths after the codebook below, and after this one.
    residual, next_residual = np.empty((2, PATHS, dim), np.float32)
    lower, next_lower = np.empty((2, PATHS, width), np.int32)
    path, next_path = np.empty((2, PATHS, n), np.int64)
    spent, next_spent = np.empty((2, PATHS), np.float32)
    next_cost = np.empty(PATHS, np.float32)
    best = np.empty(n, np.int64)
    for t in range(len(latents)):
        sums[0] = (below[0] + level) * WEIGHT_SCALE
        next_context(
            blocks[0], blocks[1], blocks[2], blocks[3], dilations, past, frame + t, sums, context
        )
        residual[0] = latents[t]
        lower[0] = 0
        spent[0] = 0.0
        path[0] = STOP
        paths = 1
        lowest = np.float32(np.inf)
        for j in range(n):
            next_cost[:] = np.inf
            for p in range(paths):
                if j < modelled:
                    head_logits(
                        heads[0][j], heads[1][j], heads[2][j], heads[3][j], heads[4][j],
                        heads[5][j], context[0], lower[p], logits,
                    )  # fmt: skip
                    top = logits.max()
                    total = np.int64(0)
                    for k in range(size):
                        entry = table_entry(top, logits[k])
                        total += table[entry]
                        bits[k] = -log_table[entry]
                    bits += np.float32(np.log2(total))
                else:
                    bits[:] = fixed_bits[j - modelled]
                left = np.float32(0.0)
                for d in range(dim):
                    left += residual[p, d] * residual[p, d]
                for k in range(size):
                    cost[k] = squares[j, k] + left + price * (spent[p] + bits[k])
                for d in range(described[j]):
                    twice = np.float32(2.0) * residual[p, d]
                    for k in range(size):
                        cost[k] -= twice * codebooks[j, d, k]
                if j and may_stop:
                    if cost[STOP] < lowest:
                        lowest = cost[STOP]
                        best[:] = path[p]
                    cost[STOP] = np.inf
                for _ in range(PATHS):
                    code = cost.argmin()
                    slot = next_cost.argmax()
                    if cost[code] >= next_cost[slot]:
                        break
                    next_cost[slot] = cost[code]
                    next_spent[slot] = spent[p] + bits[code]
                    next_path[slot] = path[p]
                    next_path[slot, j] = code
                    for d in range(dim):
                        next_residual[slot, d] = residual[p, d] - codebooks[j, d, code]
                    next_lower[slot] = lower[p]
                    if j < modelled:
                        next_lower[slot] += embedding[j, code]
                    cost[code] = np.inf
            residual, next_residual = next_residual, residual
            lower, next_lower = next_lower, lower
            path, next_path = next_path, path
            spent, next_spent = next_spent, spent
            paths = PATHS
        last = next_cost.argmin()
        if next_cost[last] < lowest:
            best[:] = path[last]
        below[0] = 0
        for j in range(n):
            codes[j, t] = best[j]
            if j < modelled:
                below[0] += embedding[j, best[j]]
