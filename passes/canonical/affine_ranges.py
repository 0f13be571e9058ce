"""Simplifies affine expressions by the ranges of their dimensions, as MLIR alone cannot.

Merging two axes and splitting them again gives `(d0 * 4 + d1) floordiv 4`, which MLIR turns into
`d0 + d1 floordiv 4`; that this is `d0` follows only from `d1 < 4`.
"""

from collections.abc import Callable, Sequence

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["simplify_map"]

Range = tuple[int, int] | None
"""First and last value, None when not known."""


def simplify_map(map_: ir.AffineMap, sizes: Sequence[int]) -> ir.AffineMap:
    """The same map on dimensions that run over `0 .. size - 1` (`diag.DYNAMIC`: no upper end)."""
    results = [_simplify(expr, sizes) for expr in map_.results]
    return ir.AffineMap.get(map_.n_dims, map_.n_symbols, results)


def _simplify(expr: ir.AffineExpr, sizes: Sequence[int]) -> ir.AffineExpr:
    rule = _RULES.get(type(expr))
    if rule is None:
        return expr
    return rule(_simplify(expr.lhs, sizes), _simplify(expr.rhs, sizes), sizes)


def _add(lhs: ir.AffineExpr, rhs: ir.AffineExpr, _: Sequence[int]) -> ir.AffineExpr:
    """A sum, where `(e floordiv c) * c + e mod c` is `e`."""
    if isinstance(rhs, ir.AffineModExpr) and isinstance(rhs.rhs, ir.AffineConstantExpr):
        quotient = ir.AffineExpr.get_floor_div(rhs.lhs, rhs.rhs)
        if lhs == quotient * rhs.rhs:
            return rhs.lhs
    return lhs + rhs


def _floor_div(lhs: ir.AffineExpr, rhs: ir.AffineExpr, sizes: Sequence[int]) -> ir.AffineExpr:
    if _is_below(lhs, rhs, sizes):
        return ir.AffineExpr.get_constant(0)
    return ir.AffineExpr.get_floor_div(lhs, rhs)


def _mod(lhs: ir.AffineExpr, rhs: ir.AffineExpr, sizes: Sequence[int]) -> ir.AffineExpr:
    return lhs if _is_below(lhs, rhs, sizes) else ir.AffineExpr.get_mod(lhs, rhs)


_RULES: dict[type, Callable[[ir.AffineExpr, ir.AffineExpr, Sequence[int]], ir.AffineExpr]] = {
    ir.AffineAddExpr: _add,
    ir.AffineMulExpr: lambda lhs, rhs, _: lhs * rhs,
    ir.AffineFloorDivExpr: _floor_div,
    ir.AffineModExpr: _mod,
}


def _is_below(expr: ir.AffineExpr, limit: ir.AffineExpr, sizes: Sequence[int]) -> bool:
    """Whether `0 <= expr < limit` for a constant limit, at all positions."""
    found = _range(_downcast(expr), sizes)
    if found is None or not isinstance(limit, ir.AffineConstantExpr):
        return False
    return found[0] >= 0 and found[1] < limit.value


def _downcast(expr: ir.AffineExpr) -> ir.AffineExpr:
    """Sums and products come back as plain expressions; a map's results have their classes."""
    return ir.AffineMap.get(64, 0, [expr]).results[0]


def _range(expr: ir.AffineExpr, sizes: Sequence[int]) -> Range:
    if isinstance(expr, ir.AffineConstantExpr):
        return expr.value, expr.value
    if isinstance(expr, ir.AffineDimExpr):
        size = sizes[expr.position]
        return None if size == diag.DYNAMIC else (0, max(size - 1, 0))
    combine = _RANGES.get(type(expr))
    if combine is None:
        return None
    lhs, rhs = _range(expr.lhs, sizes), _range(expr.rhs, sizes)
    return None if lhs is None or rhs is None else combine(lhs, rhs)


def _product_range(lhs: tuple[int, int], rhs: tuple[int, int]) -> Range:
    ends = [a * b for a in lhs for b in rhs]
    return min(ends), max(ends)


def _mod_range(_lhs: tuple[int, int], rhs: tuple[int, int]) -> Range:
    return 0, rhs[1] - 1


def _floor_div_range(lhs: tuple[int, int], rhs: tuple[int, int]) -> Range:
    return lhs[0] // rhs[0], lhs[1] // rhs[0]


_RANGES: dict[type, Callable[[tuple[int, int], tuple[int, int]], Range]] = {
    ir.AffineAddExpr: lambda lhs, rhs: (lhs[0] + rhs[0], lhs[1] + rhs[1]),
    ir.AffineFloorDivExpr: _floor_div_range,
    ir.AffineModExpr: _mod_range,
    ir.AffineMulExpr: _product_range,
}
