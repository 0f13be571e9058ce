"""Affine positions and constant tables as text."""

import math
import re
from collections.abc import Sequence

from diagc.frontend.text.print_scalars import literal_text
from diagc.mlir import ir

__all__ = ["affine_text", "table_text"]

MAX_TABLE = 64
"""Largest table that is printed with its numbers."""

_INFIX = (
    (ir.AffineAddExpr, "+"),
    (ir.AffineMulExpr, "*"),
    (ir.AffineFloorDivExpr, "/"),
    (ir.AffineModExpr, "%"),
)


def affine_text(expr: ir.AffineExpr, labels: Sequence[str]) -> str:
    """Give a position; dimension i of the map is `labels[i]`."""
    if isinstance(expr, ir.AffineDimExpr):
        return labels[ir.AffineDimExpr(expr).position]
    if isinstance(expr, ir.AffineConstantExpr):
        return str(ir.AffineConstantExpr(expr).value)
    for kind, sign in _INFIX:
        if isinstance(expr, kind):
            binary = kind(expr)
            lhs, rhs = (affine_text(side, labels) for side in (binary.lhs, binary.rhs))
            if sign == "+":
                return f"{lhs} - {rhs[1:]}" if re.fullmatch(r"-\d+", rhs) else f"{lhs} + {rhs}"
            return f"{_bound(lhs)} {sign} {_bound(rhs)}"
    return str(expr)


def _bound(text: str) -> str:
    return f"({text})" if " " in text else text


def table_text(attr: ir.Attribute) -> str:
    """Give a constant: a number, or nested lists; `[...]` where there are too many numbers."""
    type_ = ir.RankedTensorType(attr.type)
    if math.prod(type_.shape) > MAX_TABLE:
        return literal_text(attr.get_splat_value()) if attr.is_splat else "[...]"
    return _nested(_numbers(attr, type_.element_type), list(type_.shape))


def _numbers(attr: ir.Attribute, element: ir.Type) -> list[str]:
    count = math.prod(ir.RankedTensorType(attr.type).shape)
    if not count:
        return []
    if attr.is_splat:
        return [literal_text(attr.get_splat_value())] * count
    if isinstance(element, (ir.F16Type, ir.BF16Type)):  # the bindings cannot iterate over them
        inner = str(attr).split("<", 1)[1].split(">", 1)[0]
        values = [_number(text, element) for text in re.findall(r"[^\s,\[\]]+", inner)]
    elif isinstance(attr, ir.DenseFPElementsAttr):
        values = [ir.FloatAttr.get(element, value) for value in attr]
    else:
        values = [ir.IntegerAttr.get(element, value) for value in attr]
    return [literal_text(value) for value in values]


def _number(text: str, element: ir.Type) -> ir.Attribute:
    return ir.Attribute.parse(f"{text} : {element}")


def _nested(numbers: Sequence[str], shape: Sequence[int]) -> str:
    if not shape:
        return numbers[0]
    step = math.prod(shape[1:])
    rows = [_nested(numbers[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
    return f"[{', '.join(rows)}]"
