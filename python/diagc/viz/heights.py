"""Heights: things of a column keep their order and a distance, and wires run as level as can be."""

from collections.abc import Sequence

__all__ = ["settle"]


def settle(
    wanted: Sequence[float], heights: Sequence[float], separation: float, weights: Sequence[float]
) -> list[float]:
    """Tops of things under each other that are nearest to where they are wanted.

    Least squares under the order and the distances: isotonic regression (pool adjacent violators)
    of what is wanted, less what all things above take.
    """
    taken = [0.0]
    for height in heights[:-1]:
        taken.append(taken[-1] + height + separation)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of things
    for wish, offset, weight in zip(wanted, taken, weights, strict=True):
        mean, total, count = wish - offset, weight, 1
        while pools and pools[-1][0] > mean:
            above, more, number = pools.pop()
            mean = (mean * total + above * more) / (total + more)
            total, count = total + more, count + number
        pools.append((mean, total, count))
    levels = [mean for mean, _, count in pools for _ in range(count)]
    return [round(level + offset, 2) for level, offset in zip(levels, taken, strict=True)]
