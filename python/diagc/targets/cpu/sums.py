"""Sums over the lanes of several vectors at once."""

from collections.abc import Callable, Sequence
from itertools import chain

from diagc.mlir import arith, ir, vector
from diagc.targets.cpu.code import Code

__all__ = ["combine_lanes", "sum_vectors"]

# Lanes of each quarter of a step's two operands: those of the second count from 4 on.
_NEIGHBOURS = ((0, 4, 1, 5), (2, 6, 3, 7))
_PAIRS = ((0, 1, 4, 5), (2, 3, 6, 7))


def sum_vectors(code: Code, values: Sequence[ir.Value]) -> list[ir.Value]:
    """The sum over the lanes of each vector of floats, as scalars.

    Four vectors are summed with about a third of the instructions of four single sums, which is
    what bounds products of vectors that are a few registers long (decoding). A vector is summed in
    the same order alone: what a row gives does not depend on how many there are.
    """
    whole = len(values) // 4 * 4 if code.lanes >= 4 else 0
    fours = [_sum_four(values[i : i + 4]) for i in range(0, whole, 4)]
    return [*chain(*fours), *(_sum_one(code, value) for value in values[whole:])]


def combine_lanes(value: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """The lanes of a vector combined with each other, as a scalar.

    Halves are combined as vectors: of scalar maxima that pass NaN on LLVM makes branches.
    """
    lanes = width = value.type.shape[0]
    while width > 1:
        width //= 2
        value = combine(value, vector.shuffle(value, value, [i ^ width for i in range(lanes)]))
    return vector.extract(value, [], [0])


def _sum_four(values: Sequence[ir.Value]) -> list[ir.Value]:
    """Lanes are added while vectors are interleaved; what is left are four sums a quarter."""
    a, b, c, d = values
    total = _add_shuffled(
        _add_shuffled(a, b, _NEIGHBOURS), _add_shuffled(c, d, _NEIGHBOURS), _PAIRS
    )
    lanes = total.type.shape[0]
    while lanes > 4:
        lanes //= 2
        halves = (range(lanes), range(lanes, 2 * lanes))
        total = arith.addf(*(vector.shuffle(total, total, list(half)) for half in halves))
    return [vector.extract(total, [], [i]) for i in range(4)]


def _sum_one(code: Code, value: ir.Value) -> ir.Value:
    """The sum over the lanes, in the order of `_sum_four`: in each quarter, then the quarters."""
    lanes = value.type.shape[0]
    if lanes < 4:
        return code.reduce_vector("add", value)
    distances = [2, 1, *(1 << i for i in range(lanes.bit_length() - 2, 1, -1))]
    for distance in distances:
        other = vector.shuffle(value, value, [i ^ distance for i in range(lanes)])
        value = arith.addf(value, other)
    return vector.extract(value, [], [0])


def _add_shuffled(a: ir.Value, b: ir.Value, picks: Sequence[Sequence[int]]) -> ir.Value:
    """The sum of two shuffles of two vectors that never cross quarters."""
    lanes = a.type.shape[0]
    parts = []
    for pick in picks:
        mask = [q + (i if i < 4 else lanes + i - 4) for q in range(0, lanes, 4) for i in pick]
        parts.append(vector.shuffle(a, b, mask))
    return arith.addf(*parts)
