"""How near to its peak the inner loop of a contraction on vectors comes, by its register block.

A block keeps sums of `rows` positions times `side` vectors in registers. It is bound by the
multiply-adds that must be in flight at a time, and by the loads that each of them wants.
"""

from diagc.cost.device import Device

__all__ = ["ACCUMULATORS", "SIDES", "register_block", "slowdown"]

ACCUMULATORS = {32: 16, 16: 12}
"""Sums in registers, by number of registers: half of 32, 3/4 of 16 (measured flat on AVX-512
between 8 and 24). On AVX2 12 of them leave room for 3 vectors and a broadcast: scores and values of
2048 positions, d = 64, take 178 ms with 3 x 4, 221 ms with 2 x 4, and 240 ms with 4 x 3, which
spills."""

SIDES = {32: (4, 3), 16: (3, 2)}
"""Vectors side by side, by number of registers: the first of them that divides a tile."""

LOAD_WEIGHT = 0.2
"""What a load adds to a multiply-add that it feeds, in units of one; measured."""


def register_block(vectors: int, registers: int) -> tuple[int, int]:
    """(vectors side by side, rows) of the inner loop for a tile of so many vectors."""
    choices = SIDES[registers]
    if vectors <= choices[0]:
        side = max(vectors, 1)
    else:
        side = next((n for n in choices if vectors % n == 0), choices[0])
    rows = ACCUMULATORS[registers] // side
    if rows != 6:  # which is a block of its own
        most = min(rows, 8 if rows >= 16 else 4)
        rows = max(n for n in (8, 4, 3, 2, 1) if n <= most)
    return side, rows


def slowdown(vectors: int, device: Device) -> float:
    """How much longer than at its peak a multiply-add takes in tiles of so many vectors."""
    side, rows = register_block(vectors, device.registers)
    loads = (side + rows) / (side * rows)
    # units load about as many vectors as they multiply
    return max(1.0, device.limits["fma_in_flight"] / (side * rows), loads) + LOAD_WEIGHT * loads
