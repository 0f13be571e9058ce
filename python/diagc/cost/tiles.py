"""Enumerates group and chunk sizes, and ranks decorations by the time that they are estimated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TypeVar

from diagc.cost.device import Device
from diagc.cost.estimate import Estimate, Estimator
from diagc.cost.ops import Sizes
from diagc.cost.transfers import Decoration
from diagc.mlir import ir

__all__ = ["rank", "steps_of", "tilings"]

Choice = TypeVar("Choice")


def steps_of(size: int, multiple: int = 1) -> list[int]:
    """Sizes of groups or chunks of an axis: multiples that divide it, and powers of two times.

    A step that does not divide the axis leaves a smaller last one, so that these are only a few:
    the multiple times powers of two, up to the axis itself.

    Args:
        size: of the axis.
        multiple: what a step must be a multiple of, such as the lanes of a vector.
    """
    if size <= multiple:
        return [size]
    found = {size}
    step = multiple
    while step < size:
        found.add(step)
        step *= 2
    tiles = size // multiple if size % multiple == 0 else 0
    found |= {multiple * n for n in range(1, tiles + 1) if tiles % n == 0}
    return sorted(found)


def tilings(
    sizes: Mapping[str, int], multiples: Mapping[str, int] | None = None
) -> Iterator[dict[str, int]]:
    """Every combination of `steps_of` the axes."""
    known = multiples or {}
    steps = [steps_of(size, known.get(axis, 1)) for axis, size in sizes.items()]
    for choice in product(*steps):
        yield dict(zip(sizes, choice, strict=True))


def rank(
    kernel: ir.Operation,
    candidates: Iterable[tuple[Choice, Decoration]],
    device: Device,
    sizes: Sizes | None = None,
) -> Sequence[tuple[Choice, Estimate]]:
    """Candidates with their estimates, the fastest first; of equal ones the first stays first.

    Args:
        kernel: the function.
        candidates: what the target could make of it, each with how that cuts the kernel.
        device: what it is to run on.
        sizes: of open axes, by label.
    """
    estimator = Estimator(kernel, device, sizes)
    found = [(choice, estimator.estimate(cut)) for choice, cut in candidates]
    return sorted(found, key=lambda pair: pair[1].seconds)
