"""The range coder gives back what it was given, in few bytes, and notices everything else."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import unhurried

from vqasr.entropy.range_coder import RangeDecoder, RangeEncoder

frequencies = st.lists(st.integers(1, 1 << 16), min_size=1, max_size=8)
messages = st.lists(st.tuples(frequencies, st.integers(0, 7)), max_size=60)


def encode(message: list[tuple[list[int], int]]) -> bytes:
    encoder = RangeEncoder()
    for table, choice in message:
        symbol = choice % len(table)
        encoder.encode(sum(table[:symbol]), table[symbol], sum(table))
    return encoder.finish()


def decode(message: list[tuple[list[int], int]], data: bytes) -> tuple[list[int], bool]:
    """Symbols that `data` holds for the message's tables, and whether it is canonical."""
    decoder, symbols = RangeDecoder(data), []
    for table, _ in message:
        symbol = decoder.decode(np.cumsum(table))
        if symbol < 0:
            return symbols, False
        symbols.append(symbol)
    return symbols, decoder.is_complete()


@unhurried
@given(messages)
def test_decoding_gives_the_message_in_hardly_more_than_its_information(message) -> None:
    data = encode(message)
    symbols, complete = decode(message, data)
    assert symbols == [choice % len(table) for table, choice in message]
    assert complete
    bits = sum(math.log2(sum(t) / t[c % len(t)]) for t, c in message)
    assert 8 * len(data) <= bits + 8 + 1e-3 * len(message)
    assert not data.endswith(b"\0")


@unhurried
@given(messages, st.binary(max_size=40))
def test_other_bytes_hold_other_symbols_or_are_not_canonical(message, data: bytes) -> None:
    symbols, complete = decode(message, data)
    if complete:
        again = [(t, s) for (t, _), s in zip(message, symbols, strict=True)]
        assert encode(again) == data


def test_carries_run_through_many_bytes() -> None:
    # Always the last of 2^16 symbols: low is a row of 0xFF bytes, until one more step carries.
    table = [(1 << 16) - 1, 1]
    for length in (3, 40, 200):
        message = [(table, 1)] * length + [(table, 0), ([1, 1], 1)]
        assert decode(message, encode(message)) == ([1] * length + [0, 1], True)


def test_nothing_takes_no_bytes() -> None:
    assert encode([]) == b""
    assert decode([], b"") == ([], True)
    assert decode([], b"\1")[1] is False


def test_the_largest_total_keeps_its_precision() -> None:
    table = [1] * 3 + [(1 << 32) - 3]
    message = [(table, 3)] * 2000 + [(table, 1)] * 20
    data = encode(message)
    assert decode(message, data) == ([3] * 2000 + [1] * 20, True)
    assert abs(8 * len(data) - 20 * 32) < 16
