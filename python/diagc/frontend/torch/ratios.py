"""Which open sizes are a fixed number of times another: those that the function divides.

Query heads that share key heads are such sizes: how many share one is part of the program, how many
there are is not.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from diagc.frontend.torch.captured import Captured
from diagc.frontend.torch.sizes import Size, fix, free_symbols

__all__ = ["fixed_ratios"]

_SIZE = r"s\[(\d+)\]\[(\d+)\]"
_DIVIDED = re.compile(rf"{_SIZE} (?:%|//) {_SIZE}")
"""In a condition: torch demands that one size is a multiple of another."""


def fixed_ratios(
    captured: Captured, shapes: Sequence[Sequence[int]]
) -> tuple[Mapping[str, Size], tuple[str, ...]]:
    """Sizes by the names of their symbols, as multiples of other symbols, and what that assumes.

    Args:
        captured: with symbolic sizes.
        shapes: of the example inputs, which say how many times.

    Returns:
        the sizes, and conditions as `Captured` has them.
    """
    found: dict[str, Size] = {}
    assumed: list[str] = []
    symbols = {
        (source.user_index, dim): size
        for source in captured.inputs
        for dim, size in enumerate(source.type.shape)
    }
    for whole, part in _divisions(captured.conditions):
        size, unit = (fix(symbols.get(place), found) for place in (whole, part))
        ratio, rest = divmod(shapes[whole[0]][whole[1]], shapes[part[0]][part[1]])
        is_open = getattr(size, "is_Symbol", False) and not isinstance(unit, int | None)
        if not rest and is_open and size.name not in free_symbols(unit):
            times = {size.name: ratio * unit}
            found = {name: fix(other, times) for name, other in found.items()} | times
            assumed.append(f"s[{whole[0]}][{whole[1]}] == {ratio}*s[{part[0]}][{part[1]}]")
    return found, tuple(assumed)


def _divisions(conditions: Sequence[str]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of places (input, dim), the first of which is divided by the second."""
    for match in _DIVIDED.finditer("\n".join(conditions)):
        first, dim, second, other = map(int, match.groups())
        yield (first, dim), (second, other)
