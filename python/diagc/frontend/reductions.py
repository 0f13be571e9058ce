"""Reductions of the language and the kinds of `diag.reduce` that they are made of."""

import math
from collections.abc import Sequence
from types import MappingProxyType

from diagc.dialects import diag
from diagc.frontend.elementwise import emit_map
from diagc.frontend.scalars import leaf, literal
from diagc.mlir import ir

__all__ = ["REDUCTIONS", "emit_reduction"]

REDUCTIONS = MappingProxyType(
    {
        "sum": "add",
        "prod": "mul",
        "max": "max",
        "min": "min",
        "any": "or",
        "all": "and",
        "mean": "add",
    }
)
"""Names of reductions, with the monoid that each folds with."""


def emit_reduction(
    name: str, src: ir.Value, over: Sequence[str], loc: ir.Location | None = None
) -> ir.Value:
    """Reduce `src` over labels; `mean` divides by the number of positions, also at run time.

    Raises:
        VerifyError: a label that `src` lacks.
    """
    if name != "mean":
        return diag.reduce(src, over, REDUCTIONS[name], loc=loc)
    total = diag.reduce(src, over, REDUCTIONS[name], loc=_part(loc, "sum"))
    return _divide_by_count(total, src, over, loc)


def _part(loc: ir.Location | None, kind: str) -> ir.Location | None:
    """Name a step on the way to the result that `loc` names."""
    if not isinstance(loc, ir.NameLoc):
        return loc
    return ir.Location.name(f"{loc.name_str}_{kind}", loc.child_loc)


def _divide_by_count(
    total: ir.Value, src: ir.Value, over: Sequence[str], loc: ir.Location | None
) -> ir.Value:
    """Divide in f32 at least: counts above 256 are not exact in bf16."""
    element = diag.element_type(src)
    wide = element if isinstance(element, ir.F64Type) else ir.F32Type.get()
    sizes = {label: diag.dims(src)[label] for label in over}
    dynamic = {label: size for label, size in sizes.items() if size == diag.DYNAMIC}
    known = math.prod(size for size in sizes.values() if size != diag.DYNAMIC)
    count = literal(float(known))
    if dynamic:
        each = emit_map(count, result=dynamic, dtype=wide, loc=_part(loc, "each"))
        count = leaf(diag.reduce(each, list(dynamic), "add", loc=_part(loc, "count")))
    mean = leaf(total).cast(wide) / count
    return emit_map(mean, dtype=element if diag.is_float(element) else wide, loc=loc)
