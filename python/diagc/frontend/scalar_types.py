"""Types of scalar expressions: literals take the type of what they meet, the wider type wins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from diagc.dialects import diag
from diagc.frontend.functions import COMPARISONS, FLOAT_FUNCTIONS
from diagc.frontend.scalars import Number, Scalar, postorder
from diagc.mlir import ir

__all__ = [
    "ARITHMETIC",
    "ELEMENT_TYPES",
    "Typed",
    "cast_op",
    "element_type",
    "literal_value",
    "typed",
]

ELEMENT_TYPES = ("i1", "i8", "i16", "i32", "i64", "index", "f8E4M3FN", "f16", "bf16", "f32", "f64")
"""Element types by their names in the language, narrow to wide; booleans are i1."""

_FLOATS = ELEMENT_TYPES[6:]


def element_type(name: str) -> ir.Type:
    """Give the element type called `name`, one of `ELEMENT_TYPES`; needs an ambient context."""
    return ir.Type.parse(name)


@dataclass(frozen=True, eq=False)
class Typed:
    """A typed node.

    Args:
        op: the MLIR op, or `leaf`, or `literal`.
        type: the element type of the value; None for a literal until it meets one.
        args: the operands.
        payload: the wire of a leaf, the number of a constant, the predicate of a comparison.
        rounded: the f16 or bf16 that this f32 stands for; rounding waits for the end of the map.
        loc: where it was written.
    """

    op: str
    type: str | None
    args: tuple["Typed", ...] = ()
    payload: object = None
    rounded: str | None = None
    loc: ir.Location | None = None

    @property
    def nominal(self) -> str | None:
        """The type as a user sees it."""
        return self.rounded or self.type


def _is_float(type_: str | None) -> bool:
    return type_ in _FLOATS


_WIDTHS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "index": 64}


def literal_value(value: Number, type_: str, loc: ir.Location | None = None) -> Number:
    """Give a literal as a number of element type `type_`.

    Raises:
        VerifyError: the type has no such value: 0.5 or 300 as i8.
    """
    try:
        exact = float(value) if _is_float(type_) else int(value)
    except (OverflowError, ValueError):  # 10**400, inf or nan as an integer
        raise diag.VerifyError(f"{value} is not a value of type {type_}", loc) from None
    if not _is_float(type_):
        bound = 2 if type_ == "i1" else 1 << (_WIDTHS[type_] - 1)
        if exact != value or not -bound <= exact < bound:
            raise diag.VerifyError(f"{value} is not a value of type {type_}", loc)
    return exact


def _constant(value: Number, type_: str, loc: ir.Location | None) -> Typed:
    return Typed("arith.constant", type_, payload=literal_value(value, type_, loc), loc=loc)


def _cast(arg: Typed, target: str, loc: ir.Location | None) -> Typed:
    """Convert to another element type, through i64 or f32 where MLIR has no direct op."""
    source = arg.type
    if source is None:
        return _constant(arg.payload, target, arg.loc)  # type: ignore[arg-type]
    if source == target:
        return replace(arg, rounded=None) if arg.rounded else arg
    if target == "i1":
        raise diag.VerifyError(f"{source} does not convert to i1; compare it with 0", loc)
    detour = _detour(source, target)
    if detour is not None:
        return _cast(_cast(arg, detour, loc), target, loc)
    return Typed(cast_op(source, target), target, (arg,), loc=loc)


def _detour(source: str, target: str) -> str | None:
    if {source, target} == {"f16", "bf16"}:
        return "f32"
    if source == "index" and _is_float(target):
        return "i64"
    if target == "index" and (_is_float(source) or source == "i1"):
        return "i64"
    return None


def cast_op(source: str, target: str) -> str:
    """Give the op that converts between two different element types without a detour."""
    if "index" in (source, target):
        return "arith.index_cast"
    if _is_float(source) and _is_float(target):
        return "arith.extf" if _FLOATS.index(source) < _FLOATS.index(target) else "arith.truncf"
    if _is_float(target):
        return "arith.uitofp" if source == "i1" else "arith.sitofp"
    if _is_float(source):
        return "arith.fptosi"
    if ELEMENT_TYPES.index(source) > ELEMENT_TYPES.index(target):
        return "arith.trunci"
    return "arith.extui" if source == "i1" else "arith.extsi"


def _common_type(node: Scalar, args: Sequence[Typed]) -> str:
    """Give the type that operands meet in: the widest; floats win; f32 for f16 with bf16."""
    types = {arg.nominal for arg in args if arg.nominal is not None}
    if "i1" in types and len(types) > 1:
        other = next(iter(types - {"i1"}))
        raise diag.VerifyError(
            f"'{node.name}' meets i1 and {other}; convert the i1 or use where(c, a, b)", node.loc
        )
    literal_float = any(arg.type is None and isinstance(arg.payload, float) for arg in args)
    if not types or (literal_float and not any(map(_is_float, types))):
        return "f32"
    if {"f16", "bf16"} <= types:
        return "f32" if "f64" not in types else "f64"
    widest = max(types, key=ELEMENT_TYPES.index)
    return "f32" if widest == "f8E4M3FN" else widest  # which is for storage alone


@dataclass(frozen=True)
class _Operands:
    """Operands in one type; f16 and bf16 are computed in f32 and rounded at the end."""

    nominal: str
    args: tuple[Typed, ...]

    @property
    def type(self) -> str:
        return _compute_type(self.nominal)

    def result(self, op: str, loc: ir.Location | None) -> Typed:
        rounded = self.nominal if self.nominal != self.type else None
        return Typed(op, self.type, self.args, rounded=rounded, loc=loc)


def _compute_type(nominal: str) -> str:
    return "f32" if nominal in ("f16", "bf16") else nominal


def _unified(node: Scalar, args: Sequence[Typed]) -> _Operands:
    nominal = _common_type(node, args)
    type_ = _compute_type(nominal)
    return _Operands(nominal, tuple(_cast(arg, type_, node.loc) for arg in args))


def _numbers(node: Scalar, args: Sequence[Typed]) -> _Operands:
    """Unify operands that must be numbers."""
    operands = _unified(node, args)
    if operands.type == "i1":
        raise diag.VerifyError(
            f"'{node.name}' takes numbers, found i1; use where(c, a, b) or a cast", node.loc
        )
    return operands


def _floats(node: Scalar, args: Sequence[Typed]) -> _Operands:
    """Unify operands of a function of floats; integers become f32."""
    operands = _numbers(node, args)
    if _is_float(operands.type):
        return operands
    return _Operands("f32", tuple(_cast(arg, "f32", node.loc) for arg in operands.args))


_FOLDS: dict[str, Callable[..., Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "neg": lambda a: -a,
}

ARITHMETIC = {
    "+": ("arith.addf", "arith.addi"),
    "-": ("arith.subf", "arith.subi"),
    "*": ("arith.mulf", "arith.muli"),
    "/": ("arith.divf", "arith.divsi"),
    "%": ("arith.remf", "arith.remsi"),
    "max": ("arith.maximumf", "arith.maxsi"),
    "min": ("arith.minimumf", "arith.minsi"),
    "abs": ("math.absf", "math.absi"),
}
"""Operations, with their ops on floats and on integers; integers divide as in C, towards zero."""


def _arithmetic(node: Scalar, args: Sequence[Typed]) -> Typed:
    operands = _numbers(node, args)
    float_op, int_op = ARITHMETIC[node.name]
    return operands.result(float_op if _is_float(operands.type) else int_op, node.loc)


def _negate(node: Scalar, args: Sequence[Typed]) -> Typed:
    operands = _numbers(node, args)
    if _is_float(operands.type):
        return operands.result("arith.negf", node.loc)
    zero = _constant(0, operands.type, node.loc)
    return replace(operands, args=(zero, *operands.args)).result("arith.subi", node.loc)


def _float_function(node: Scalar, args: Sequence[Typed]) -> Typed:
    return _floats(node, args).result(FLOAT_FUNCTIONS[node.name], node.loc)


def _power(node: Scalar, args: Sequence[Typed]) -> Typed:
    return _floats(node, args).result("math.powf", node.loc)


def _compare(node: Scalar, args: Sequence[Typed]) -> Typed:
    equality = node.name in ("==", "!=")
    operands = _unified(node, args) if equality else _numbers(node, args)
    float_predicate, int_predicate = COMPARISONS[node.name]
    if _is_float(operands.type):
        return Typed("arith.cmpf", "i1", operands.args, float_predicate, loc=node.loc)
    return Typed("arith.cmpi", "i1", operands.args, int_predicate, loc=node.loc)


def _logic(node: Scalar, args: Sequence[Typed]) -> Typed:
    for arg in args:
        _expect_condition(node, arg)
    if node.name == "not":
        true = _constant(True, "i1", node.loc)
        return Typed("arith.xori", "i1", (args[0], true), loc=node.loc)
    op = {"and": "arith.andi", "or": "arith.ori"}[node.name]
    return Typed(op, "i1", tuple(args), loc=node.loc)


def _select(node: Scalar, args: Sequence[Typed]) -> Typed:
    _expect_condition(node, args[0])
    branches = _unified(node, args[1:])
    return replace(branches, args=(args[0], *branches.args)).result("arith.select", node.loc)


def _expect_condition(node: Scalar, arg: Typed) -> None:
    if arg.type != "i1":
        found = "a number" if arg.type is None else arg.nominal
        raise diag.VerifyError(f"'{node.name}' takes a condition (i1), found {found}", node.loc)


def _literal(node: Scalar) -> Typed:
    if isinstance(node.payload, bool):
        return _constant(node.payload, "i1", node.loc)
    return Typed("literal", None, payload=node.payload, loc=node.loc)


def _leaf(node: Scalar) -> Typed:
    element = str(diag.element_type(node.payload))
    return Typed("leaf", element, payload=node.payload, loc=node.loc)


_RULES: dict[str, Callable[[Scalar, Sequence[Typed]], Typed]] = {
    **dict.fromkeys(FLOAT_FUNCTIONS, _float_function),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(("and", "or", "not"), _logic),
    "neg": _negate,
    "pow": _power,
    "where": _select,
    "leaf": lambda node, _: _leaf(node),
    "literal": lambda node, _: _literal(node),
    "cast": lambda node, args: _cast(args[0], str(node.payload), node.loc),
}


def _fold(node: Scalar, args: Sequence[Typed]) -> Typed | None:
    """Literals meeting literals are folded, as Python does: 1 / 8 is 0.125."""
    if node.name not in _FOLDS or any(arg.type is not None for arg in args):
        return None
    try:
        value = _FOLDS[node.name](*(arg.payload for arg in args))
    except ArithmeticError as error:
        raise diag.VerifyError(f"{error} in a constant expression", node.loc) from None
    return Typed("literal", None, payload=value, loc=node.loc)


def _inherit_locations(order: Sequence[Scalar]) -> dict[int, Scalar]:
    """Nodes without a place of their own, inside derived functions, get that of their user."""
    placed = {id(node): node for node in order}
    for original in reversed(order):
        for arg in original.args:
            if placed[id(arg)].loc is None:
                placed[id(arg)] = replace(arg, loc=placed[id(original)].loc)
    return placed


def typed(root: Scalar) -> Typed:
    """Type a tree; literals alone are f32, f16 and bf16 are computed in f32 and rounded once.

    Nodes of derived functions inherit the places of their users.

    Raises:
        VerifyError: operands that do not fit, with the place of the operation.
    """
    order = list(postorder(root))
    placed = _inherit_locations(order)
    done: dict[int, Typed] = {}
    for node in order:
        args = [done[id(arg)] for arg in node.args]
        here = placed[id(node)]
        done[id(node)] = _fold(here, args) or _RULES[node.name](here, args)
    result = done[id(root)]
    return _cast(result, result.nominal or "f32", root.loc)
