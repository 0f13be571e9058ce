"""Ops on whole wires: contract, reduce, relabel, reindex, index, constant, concat, pad."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from diagc.dialects.diag.affine import (
    evaluate,
    has_positive_divisors,
    is_linear,
    used_dims,
)
from diagc.dialects.diag.dialect import DiagOp
from diagc.dialects.diag.monoids import MONOIDS
from diagc.dialects.diag.types import (
    DYNAMIC,
    Dims,
    VerifyError,
    dims,
    element_type,
    join_dims,
    labels,
    strings,
)
from diagc.mlir import ext, ir

__all__ = [
    "ConcatOp",
    "ConstantOp",
    "ContractOp",
    "IndexOp",
    "PadOp",
    "ReduceOp",
    "ReindexOp",
    "RelabelOp",
    "check_element",
    "check_has",
    "check_result",
    "is_float",
    "is_stored_float",
    "is_wide_float",
]

STORED_FLOATS = (ir.Float8E4M3FNType,)
FLOATS = (*STORED_FLOATS, ir.F16Type, ir.BF16Type, ir.F32Type, ir.F64Type)


def is_float(type_: ir.Type) -> bool:
    """Whether `type_` is one of f8E4M3FN, f16, bf16, f32, f64."""
    return isinstance(type_, FLOATS)


def is_stored_float(type_: ir.Type) -> bool:
    """Whether numbers of `type_` (f8E4M3FN) are only stored and multiplied, not added.

    Maps convert them, and contractions take them as operands.
    """
    return isinstance(type_, STORED_FLOATS)


def is_wide_float(type_: ir.Type) -> bool:
    """Whether `type_` is f32 or f64: a sum of it is not rounded to 16 bits or fewer."""
    return isinstance(type_, (ir.F32Type, ir.F64Type))


def check_result(result: ir.Value, expected: Mapping[str, int]) -> None:
    """The result has exactly the expected labels, in any order, with compatible sizes."""
    found = dims(result)
    if set(found) != set(expected):
        raise VerifyError(
            f"result type {result.type} has axes {sorted(found)}, expected {sorted(expected)}"
        )
    for label, size in expected.items():
        if found[label] != size:
            raise VerifyError(
                f'result axis "{label}" has size {_size(found[label])}, expected {_size(size)}'
            )


def check_element(result: ir.Value, expected: ir.Type) -> None:
    """The result holds elements of the expected type."""
    if element_type(result) != expected:
        raise VerifyError(f"result element type {element_type(result)}, expected {expected}")


def _size(size: int) -> str:
    return "?" if size == DYNAMIC else str(size)


def check_has(op_labels: Sequence[str], label: str, where: str, type_: ir.Type) -> None:
    """`label` is one of `op_labels`; the message names the operand and its type."""
    if label not in op_labels:
        raise VerifyError(f'axis "{label}" is missing in the {where} ({type_})')


def check_distinct(names: Sequence[str], attribute: str) -> None:
    """No label twice in an attribute."""
    for name in names:
        if names.count(name) > 1:
            raise VerifyError(f"label \"{name}\" stands twice in '{attribute}'")


class ContractOp(DiagOp, name="contract", traits=[ext.Pure]):
    """Multiply two wires and sum over the labels in `over`; other shared labels are woven (batch).

    `acc` is the type sums are kept in: f32 by default, f64 when an operand is f64. `mul`, the type
    of an operand of f8, says that a target may multiply in it: the other operand may be rounded to
    it, with a scale for each part of a row, and sums of a few hundred terms be less precise.
    """

    OPTIONAL = {"acc": ir.TypeAttr, "mul": ir.TypeAttr}
    out: ext.Result[Any]
    lhs: ext.Operand[Any]
    rhs: ext.Operand[Any]
    over: ir.ArrayAttr

    @staticmethod
    def infer(lhs: ir.Type, rhs: ir.Type, over: Sequence[str]) -> Dims:
        """Labelled sizes of the result: free axes of lhs in order, then those of rhs."""
        check_distinct(over, "over")
        for label in over:
            check_has(labels(lhs), label, "left operand", lhs)
            check_has(labels(rhs), label, "right operand", rhs)
        joined = join_dims((dims(lhs), dims(rhs)))
        return {label: size for label, size in joined.items() if label not in over}

    @property
    def acc_type(self) -> ir.Type:
        """The type that products are summed in."""
        attr = self.optional("acc")
        if attr is not None:
            return ir.TypeAttr(attr).value
        wide = any(isinstance(element_type(v), ir.F64Type) for v in (self.lhs, self.rhs))
        return ir.F64Type.get() if wide else ir.F32Type.get()

    def check(self) -> None:
        for value, side in (
            (self.lhs, "left operand"),
            (self.rhs, "right operand"),
            (self.out, "result"),
        ):
            if not is_float(element_type(value)):
                raise VerifyError(f"the {side} must hold floats, found {value.type}")
        if is_stored_float(element_type(self.out)):
            raise VerifyError(f"the result must hold f16 or wider floats, found {self.out.type}")
        if not isinstance(self.acc_type, (ir.F32Type, ir.F64Type)):
            raise VerifyError(f"'acc' must be f32 or f64, found {self.acc_type}")
        mul = self.optional("mul")
        stored = [e for e in map(element_type, (self.lhs, self.rhs)) if is_stored_float(e)]
        if mul is not None and mul.value not in stored:
            raise VerifyError(f"'mul' must be the type of an operand of f8, found {mul.value}")
        check_result(self.out, self.infer(self.lhs.type, self.rhs.type, strings(self.over)))


class ReduceOp(DiagOp, name="reduce", traits=[ext.Pure]):
    """Reduce the axes in `over` with a monoid of the table: add, mul, max, min, or, and."""

    out: ext.Result[Any]
    src: ext.Operand[Any]
    over: ir.ArrayAttr
    kind: ir.StringAttr

    @staticmethod
    def infer(src: ir.Type, over: Sequence[str]) -> Dims:
        """Labelled sizes of the result: the axes of `src` that are not reduced."""
        check_distinct(over, "over")
        for label in over:
            check_has(labels(src), label, "operand", src)
        return {label: size for label, size in dims(src).items() if label not in over}

    def check(self) -> None:
        kind = self.kind.value
        if kind not in MONOIDS:
            raise VerifyError(f"unknown reduction '{kind}'; expected one of {', '.join(MONOIDS)}")
        element = element_type(self.src)
        if not MONOIDS[kind].accepts(element):
            remedy = "; convert it to f32 before" if is_stored_float(element) else ""
            raise VerifyError(f"reduction '{kind}' is not defined on {element}{remedy}")
        check_element(self.out, element)
        check_result(self.out, self.infer(self.src.type, strings(self.over)))


class RelabelOp(DiagOp, name="relabel", traits=[ext.Pure]):
    """The same array under other axis names: label `from[i]` becomes `to[i]`."""

    out: ext.Result[Any]
    src: ext.Operand[Any]
    # `from` is a Python keyword: attributes are read through `names`
    to: ir.ArrayAttr

    @property
    def names(self) -> dict[str, str]:
        """Old label to new label."""
        attributes = self.operation.attributes
        if "from" not in attributes:
            raise VerifyError("attribute 'from' is expected but not provided")
        old, new = strings(attributes["from"]), strings(self.to)
        if len(old) != len(new):
            raise VerifyError(f"'from' has {len(old)} labels but 'to' has {len(new)}")
        check_distinct(old, "from")
        return dict(zip(old, new, strict=True))

    def check(self) -> None:
        names = self.names
        for label in names:
            check_has(labels(self.src), label, "operand", self.src.type)
        renamed = [(names.get(label, label), size) for label, size in dims(self.src).items()]
        check_distinct([label for label, _ in renamed], "result labels")
        check_element(self.out, element_type(self.src))
        check_result(self.out, dict(renamed))


class ReindexOp(DiagOp, name="reindex", traits=[ext.Pure]):
    """Affine gather, result[p] = src[map(p)]: transpose, slice, stride, diagonal, split, merge."""

    out: ext.Result[Any]
    src: ext.Operand[Any]
    map: ir.AffineMapAttr

    @property
    def affine_map(self) -> ir.AffineMap:
        """The map from result positions to source positions."""
        return self.map.value

    def check(self) -> None:
        affine, src, out = self.affine_map, dims(self.src), dims(self.out)
        if affine.n_symbols:
            raise VerifyError(f"'map' must have no symbols, found {affine}")
        if affine.n_dims != len(out) or len(affine.results) != len(src):
            raise VerifyError(
                f"'map' must go from {len(out)} result axes to {len(src)} source axes, "
                f"found {affine}"
            )
        check_element(self.out, element_type(self.src))
        for expr in affine.results:
            if not has_positive_divisors(expr):
                raise VerifyError(f"'map' divides by what is no positive number: {expr}")
        self._check_bounds(affine, src, out)

    def _check_bounds(self, affine: ir.AffineMap, src: Dims, out: Dims) -> None:
        """Static positions stay inside the source (linear expressions are extremal at corners)."""
        if 0 in out.values():
            return
        sizes = list(out.values())
        for expr, (label, size) in zip(affine.results, src.items(), strict=True):
            dynamic = DYNAMIC in (size, *(sizes[dim] for dim in used_dims(expr)))
            if not dynamic and is_linear(expr):
                _check_positions(expr, sizes, label, size)


def _check_positions(expr: ir.AffineExpr, sizes: Sequence[int], label: str, size: int) -> None:
    used = used_dims(expr)
    ends = [{0, size - 1} if dim in used else {0} for dim, size in enumerate(sizes)]
    reached = [evaluate(expr, corner) for corner in itertools.product(*ends)]
    if min(reached) < 0 or max(reached) >= size:
        raise VerifyError(
            f'positions {min(reached)}..{max(reached)} leave source axis "{label}" of size {size}'
        )


class IndexOp(DiagOp, name="index", traits=[ext.Pure]):
    """Positions 0, 1, 2 ... along one axis, a wire of element type index."""

    out: ext.Result[Any]
    axis: ir.StringAttr

    def check(self) -> None:
        if labels(self.out) != (self.axis.value,):
            raise VerifyError(
                f'result type {self.out.type} must have the one axis "{self.axis.value}"'
            )
        if not isinstance(element_type(self.out), ir.IndexType):
            raise VerifyError(f"result elements must be index, found {self.out.type}")


class ConstantOp(DiagOp, name="constant", traits=[ext.Pure]):
    """A literal or a small table; `value` is a dense attribute of the result's shape."""

    OPTIONAL = {"value": ir.DenseElementsAttr}  # ext has no constraint for dense attributes
    out: ext.Result[Any]

    def check(self) -> None:
        value = self.optional("value")
        if value is None:
            raise VerifyError("attribute 'value' is expected but not provided")
        found = value.type
        if not isinstance(found, ir.RankedTensorType):
            raise VerifyError(f"value must be a dense tensor, found {found}")
        if DYNAMIC in dims(self.out).values():
            raise VerifyError(f"a constant has static sizes, found {self.out.type}")
        if list(found.shape) != list(dims(self.out).values()):
            raise VerifyError(
                f"value has shape {list(found.shape)}, expected that of {self.out.type}"
            )
        if found.element_type != element_type(self.out):
            raise VerifyError(
                f"value holds {found.element_type}, expected {element_type(self.out)}"
            )


class ConcatOp(DiagOp, name="concat", traits=[ext.Pure]):
    """Join `lhs` along `axes[0]`, `rhs` along `axes[1]` into the axis `to`; others are equal."""

    out: ext.Result[Any]
    lhs: ext.Operand[Any]
    rhs: ext.Operand[Any]
    axes: ir.ArrayAttr
    to: ir.StringAttr

    @staticmethod
    def infer(lhs: ir.Type, rhs: ir.Type, axes: Sequence[str], to: str) -> Dims:
        """Labelled sizes of the result, with `to` in the place of `axes[0]`."""
        if len(axes) != 2:
            raise VerifyError(f"'axes' must name one axis of each operand, found {list(axes)}")
        left, right = dims(lhs), dims(rhs)
        check_has(tuple(left), axes[0], "left operand", lhs)
        check_has(tuple(right), axes[1], "right operand", rhs)
        sizes = (left[axes[0]], right.pop(axes[1]))
        total = DYNAMIC if DYNAMIC in sizes else sum(sizes)
        rest = {label: size for label, size in left.items() if label != axes[0]}
        if set(rest) != set(right):
            raise VerifyError(f"operands differ in other axes: {sorted(rest)} and {sorted(right)}")
        merged = join_dims((rest, right))
        if to in merged:
            raise VerifyError(f'result label "{to}" is already an axis of the operands')
        return {
            to if label == axes[0] else label: total if label == axes[0] else merged[label]
            for label in left
        }

    def check(self) -> None:
        if element_type(self.lhs) != element_type(self.rhs):
            raise VerifyError(
                f"operands hold {element_type(self.lhs)} and {element_type(self.rhs)}, "
                "expected one element type"
            )
        check_element(self.out, element_type(self.lhs))
        check_result(
            self.out, self.infer(self.lhs.type, self.rhs.type, strings(self.axes), self.to.value)
        )


class PadOp(DiagOp, name="pad", traits=[ext.Pure]):
    """Extend axis `axis` by `low` and `high` positions that hold `value`; the new axis is `to`."""

    out: ext.Result[Any]
    src: ext.Operand[Any]
    axis: ir.StringAttr
    to: ir.StringAttr
    low: ir.IntegerAttr
    high: ir.IntegerAttr

    def check(self) -> None:
        src, axis, to = dims(self.src), self.axis.value, self.to.value
        check_has(tuple(src), axis, "operand", self.src.type)
        self._check_value()
        if to in src:
            raise VerifyError(f'the padded axis needs a new label, found "{to}"')
        if self.low.value < 0 or self.high.value < 0:
            raise VerifyError(
                f"padding must not be negative, found {self.low.value}, {self.high.value}"
            )
        check_element(self.out, element_type(self.src))
        grown = DYNAMIC if src[axis] == DYNAMIC else src[axis] + self.low.value + self.high.value
        check_result(
            self.out,
            {
                to if label == axis else label: grown if label == axis else size
                for label, size in src.items()
            },
        )

    def _check_value(self) -> None:
        value, element = self.optional("value"), element_type(self.src)
        if value is None:
            raise VerifyError("attribute 'value' is expected but not provided")
        if not isinstance(value, (ir.FloatAttr, ir.IntegerAttr, ir.BoolAttr)):
            raise VerifyError(f"'value' must be a number of type {element}, found {value}")
        if value.type != element:
            raise VerifyError(f"'value' must be a number of type {element}, found {value}")
