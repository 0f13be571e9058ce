"""Rules for elementwise ops: a table of scalar formulas, one `diag.map` for each call.

Tensors arrive in a formula as expressions in the type that the op computes in (f32 for bf16),
numbers as Python numbers. The result is converted to the dtype that torch gives the op.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from diagc.frontend.torch.aten import Node, Ref
from diagc.frontend.torch.formulas import (
    ALIASES,
    ARITHMETIC,
    COMPARISONS,
    LOGIC,
    Arithmetic,
    Formula,
)
from diagc.frontend.torch.graph import View
from diagc.frontend.torch.promotion import compute_type, number, promoted
from diagc.frontend.torch.raise_reduce import raise_extreme
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import RULES, NotRaised, rule
from diagc.frontend.torch.scalar import Const, Expr
from diagc.frontend.torch.simplify import apply, cast

__all__: list[str] = []


# operands that a schema calls differently, and arguments that formulas do not need
_UNUSED = ("generator", "training", "lower", "upper")


def _raise(r: Raiser, node: Node, formula: Formula, compute: torch.dtype | None) -> View:
    """One map; operands are converted to `compute` (the common type if None)."""
    args = {name: value for name, value in node.args.items() if name not in _UNUSED}
    views = {name: r.view(value) for name, value in args.items() if isinstance(value, Ref)}
    if any(isinstance(value, list) for value in args.values()):
        raise NotRaised("a list of tensors")
    common = compute or _common_type(views, args)
    if common.is_complex:
        raise NotRaised("complex numbers")

    def build(*elements: Expr) -> Expr:
        read = dict(zip(views, (Arithmetic(cast(e, common)) for e in elements), strict=True))
        return formula(*(read[n] if n in read else _plain(v) for n, v in args.items())).expr

    return r.map(list(views.values()), node.result, build)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    raise NotRaised(f"an operand that is not a number: {value!r}")


def _common_type(views: dict[str, View], args: dict[str, Any]) -> torch.dtype:
    tensors = [(view.dtype, len(view.dims)) for view in views.values()]
    numbers = [v for v in args.values() if isinstance(v, (bool, int, float))]
    return compute_type(promoted(tensors, numbers))


def _arithmetic_rule(formula: Formula) -> Callable[[Raiser, Node], View]:
    return lambda r, node: _raise(r, node, formula, compute_type(node.result.dtype))


def _comparison_rule(formula: Formula) -> Callable[[Raiser, Node], View]:
    return lambda r, node: _raise(r, node, formula, None)


def _logic_rule(formula: Formula) -> Callable[[Raiser, Node], View]:
    return lambda r, node: _raise(r, node, formula, torch.bool)


for _table, _make in (
    (ARITHMETIC, _arithmetic_rule),
    (COMPARISONS, _comparison_rule),
    (LOGIC, _logic_rule),
):
    for _name, _formula in _table.items():
        rule(_name)(_make(_formula))
for _alias, _name in ALIASES.items():
    rule(_alias)(RULES[f"aten.{_name}"])


@rule("where")
def _where(r: Raiser, node: Node) -> View:
    return _choose(r, node, "condition", "self", "other")


@rule("masked_fill")
def _masked_fill(r: Raiser, node: Node) -> View:
    return _choose(r, node, "mask", "value", "self")


def _choose(r: Raiser, node: Node, condition: str, yes: str, no: str) -> View:
    if yes not in node.args or no not in node.args:
        raise NotRaised("the form of where that gives positions")
    names = [name for name in (condition, yes, no) if isinstance(node.args[name], Ref)]
    dtype = node.result.dtype

    def build(*elements: Expr) -> Expr:
        read = dict(zip(names, elements, strict=True))
        branches = [
            cast(read[n], dtype) if n in read else number(node.args[n], dtype) for n in (yes, no)
        ]
        return apply("select", cast(read[condition], torch.bool), *branches)

    return r.map([r.view(node.args[n]) for n in names], node.result, build)


@rule("to", "_to_copy", "type_as", "prims.convert_element_type", "_autocast_to_full_precision")
@rule("_autocast_to_reduced_precision", "float", "double", "half", "bfloat16", "long", "int")
def _convert(r: Raiser, node: Node) -> View:
    first = next(v for v in node.args.values() if isinstance(v, Ref))
    view = r.view(first)
    if view.dtype.is_complex:
        raise NotRaised("complex numbers")
    return r.cast(view, node.result.dtype, "")


@rule("max", "min")
def _max_of_two(r: Raiser, node: Node) -> View:
    if "other" in node.args:
        return RULES[f"{node.packet}imum"](r, node)  # type: ignore[return-value]
    return raise_extreme(r, node)  # type: ignore[return-value]


@rule("nan_to_num")
def _nan_to_num(r: Raiser, node: Node) -> View:
    dtype = node.result.dtype
    if not dtype.is_floating_point:
        return r.view(node.args["self"])
    limits = torch.finfo(dtype)
    nan, high, low = (node.get(n) for n in ("nan", "posinf", "neginf"))

    def build(x: Expr) -> Expr:
        bounds = (
            (math.inf, limits.max if high is None else high),
            (-math.inf, limits.min if low is None else low),
        )
        result = apply("select", apply("ne", x, x), Const(dtype, float(nan or 0.0)), x)
        for value, replacement in bounds:
            hit = apply("eq", x, Const(dtype, value))
            result = apply("select", hit, Const(dtype, float(replacement)), result)
        return result

    return r.map([r.view(node.args["self"])], node.result, build)
