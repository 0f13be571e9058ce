"""In which type a scalar operation computes, and what torch promotes operands to."""

from collections.abc import Iterable

import torch

from diagc.frontend.torch.scalar import Const, Expr, ScalarType
from diagc.frontend.torch.simplify import cast

__all__ = ["Number", "compute_type", "number", "promoted", "to_bool"]

Number = bool | int | float

_CATEGORIES: tuple[type, ...] = (bool, int, float)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """The type that scalar math on `dtype` runs in: f32 for narrower floats."""
    narrow = (torch.bfloat16, torch.float16, torch.float8_e4m3fn)
    return torch.float32 if dtype in narrow else dtype


def _category(dtype: torch.dtype) -> int:
    if dtype == torch.bool:
        return 0
    return 2 if dtype.is_floating_point else 1


def promoted(tensors: Iterable[tuple[torch.dtype, int]], numbers: Iterable[Number]) -> torch.dtype:
    """The common type of (dtype, rank) of tensors and of Python numbers, as torch.result_type.

    A tensor without dims, and a number, count only where their category (bool, integer, float) is
    higher than that of all tensors with dims.
    """
    ranked: list[torch.dtype | None] = [None, None, None]
    for dtype, rank in tensors:
        level = 0 if rank else 1
        known = ranked[level]
        ranked[level] = dtype if known is None else torch.promote_types(known, dtype)
    for value in numbers:
        dtype = {bool: torch.bool, int: torch.int64}.get(type(value), torch.get_default_dtype())
        known = ranked[2]
        ranked[2] = dtype if known is None else torch.promote_types(known, dtype)
    result: torch.dtype | None = None
    for candidate in ranked:
        if candidate is None:
            continue
        if result is None or _category(candidate) > _category(result):
            result = candidate
    return result or torch.get_default_dtype()


def number(value: Number, dtype: ScalarType) -> Expr:
    """A literal of type `dtype`."""
    kind = type(value) if type(value) in _CATEGORIES else float
    return cast(Const({bool: torch.bool, int: torch.int64}.get(kind, torch.float64), value), dtype)


def to_bool(expr: Expr) -> Expr:
    """Whether the value is not zero."""
    return cast(expr, torch.bool)
