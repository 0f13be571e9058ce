"""Products of sizes, worked out when a launch is planned: of grids and of scratch memory."""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, TypeAlias

from diagc.errors import InternalError

__all__ = ["Factor", "check_factor", "element_count", "factor_labels", "read_factors"]

Factor: TypeAlias = int | str | tuple[str, int]
"""A constant, the size of an axis, or the number of tiles that cover an axis: ceil(size / tile)."""


def element_count(product: Iterable[Factor], sizes: Mapping[str, int]) -> int:
    """Value of a product, given the size of every axis that it names."""
    return prod(_value(factor, sizes) for factor in product)


def _value(factor: Factor, sizes: Mapping[str, int]) -> int:
    if isinstance(factor, int):
        return factor
    if isinstance(factor, str):
        return sizes[factor]
    label, tile = factor
    return -(-sizes[label] // tile)


def factor_labels(product: Iterable[Factor]) -> list[str]:
    """The axes that a product names."""
    parts = [factor[0] if isinstance(factor, tuple) else factor for factor in product]
    return [part for part in parts if isinstance(part, str)]


def check_factor(factor: object) -> None:
    """Refuse what is no factor.

    Raises:
        InternalError: it is none.
    """
    match factor:
        case bool():
            pass
        case int() if factor >= 0:
            return
        case str():
            return
        case (str(), int() as tile) if isinstance(factor, tuple) and tile > 0:
            return
    raise InternalError(f"{factor!r} is no factor of a grid")


def read_factors(items: Any) -> tuple[Factor, ...]:
    """A product from JSON, where pairs are lists.

    Raises:
        TypeError: it is no list.
    """
    if not isinstance(items, list):
        raise TypeError(f"{items!r} is no product of sizes")
    return tuple(tuple(item) if isinstance(item, list) else item for item in items)
