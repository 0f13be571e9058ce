"""Take the scales of narrow numbers out of the operands of contractions, so that these are arrays.

Before:

    %x = "diag.map"() ({ extf %k * %s })          // %s: b m, one number for each line of %k: b m d
    %y = "diag.contract"(%q, %x) {over = ["d"]}
    %u = "diag.map"() ({ extf %v * %t })          // %v: b m e
    %o = "diag.contract"(%p, %u) {over = ["m"]}

After:

    %c = "diag.contract"(%q, %k) {over = ["d"]};  %y = "diag.map"() ({ %c * %s })
    %r = "diag.map"() ({ %p * %t });              %o = "diag.contract"(%r, %v) {over = ["m"]}

A contraction is linear in each operand: a factor that lacks the summed axes goes behind the sum,
one that has them, and no axis that the other operand lacks, goes to the other operand. What is left
of the operand is an array of f8 numbers in memory, which matrix instructions take as it is, and
which a kernel need not compute. A map that only converts f8 to a wider type is dropped, too: sums
are in f32 in any case.

With `products` (the target has matrix instructions for 16 bits) the same holds of f16 and bf16, as
of the cotangents of a softmax, which its gradients divide by the sums of rows. An operand of 16
bits that takes a factor is rounded behind it, once where it was a conversion before.

Requires: normalisers are expanded; run on functions.

Declines: operands that are no product with one array of narrow numbers that has all their axes;
factors along the summed axes where the other operand is of f8 itself, for then that would be
computed; beside arrays of 16 bits also where it is an array, or a view of one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from diagc.algebra.dataflow import defining_op, scalar_result
from diagc.algebra.maps import cast, convert
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.base import Pass
from diagc.passes.cloning import array_ops
from diagc.passes.remarks import done

__all__ = ["FactorScalesPass"]


@dataclass(frozen=True)
class _Factor:
    """A wire, or a number, that multiplies or (`inverse`) divides."""

    value: ir.Value | float
    inverse: bool

    @property
    def labels(self) -> set[str]:
        return set() if isinstance(self.value, float) else set(diag.labels(self.value))


@dataclass
class _Scaled:
    """An array of narrow numbers times factors."""

    array: ir.Value
    factors: list[_Factor] = field(default_factory=list)

    @property
    def is_float8(self) -> bool:
        return bool(diag.is_stored_float(diag.element_type(self.array)))


@dataclass(frozen=True)
class FactorScalesPass(Pass):
    """take the scales of narrow numbers out of the operands of contractions."""

    name: ClassVar[str] = "factor-scales"
    products: bool = False
    """Whether kernels of the target have products on tensor cores: then of 16 bits, too."""

    def run(self, op: ir.Operation) -> None:
        """Visit every contraction of the function."""
        with op.context:
            for inner in array_ops(op)[1:]:
                if inner.name == "diag.contract":
                    _visit(inner, sixteen=self.products)


def _visit(op: ir.Operation, *, sixteen: bool) -> None:
    over = set(diag.strings(op.attributes["over"]))
    operands = [_scaled(value, sixteen=sixteen) for value in op.operands]
    behind: list[_Factor] = []
    beside: tuple[list[_Factor], list[_Factor]] = ([], [])
    arrays = list(op.operands)
    for number, scaled in enumerate(operands):
        if scaled is None:
            continue
        late = [f for f in scaled.factors if f.labels & over]
        other = set(diag.labels(op.operands[1 - number]))
        if any(not f.labels <= other for f in late) or (late and operands[1 - number] is not None):
            continue
        if late and not scaled.is_float8 and not _takes_factors(op.operands[1 - number]):
            continue
        behind += [f for f in scaled.factors if f not in late]
        beside[1 - number].extend(late)
        arrays[number] = scaled.array
    if arrays != list(op.operands):
        _rewrite(op, arrays, behind, beside)


def _rewrite(
    op: ir.Operation,
    arrays: Sequence[ir.Value],
    behind: Sequence[_Factor],
    beside: Sequence[Sequence[_Factor]],
) -> None:
    with ir.InsertionPoint(op), op.location:
        acc = op.opview.acc_type
        lhs, rhs = (_scaled_by(a, f, acc) for a, f in zip(arrays, beside, strict=True))
        old = op.results[0]
        over, order = diag.strings(op.attributes["over"]), diag.labels(old)
        dtype = acc if behind else diag.element_type(old)
        kept = None if op.opview.optional("acc") is None else acc
        made = diag.contract(lhs, rhs, over, dtype=dtype, acc=kept, order=order)
        if behind:
            done(op, "scales of narrow numbers moved behind the sum")
            made = cast(_times(made, behind, acc), diag.element_type(old))
        if any(beside):
            done(op, "scales of narrow numbers moved to the other operand")
        old.replace_all_uses_with(made)
        op.erase()


def _scaled_by(wire: ir.Value, factors: Sequence[_Factor], acc: ir.Type) -> ir.Value:
    """An operand times factors; one of 16 bits stays that, rounded behind them."""
    if not factors:
        return wire
    dtype = diag.element_type(wire)
    made = _times(_before_rounding(wire) or wire, factors, acc)
    return cast(made, dtype) if _is_sixteen(dtype) else made


def _takes_factors(value: ir.Value) -> bool:
    """Whether an operand is computed in any case."""
    op = defining_op(value)
    return op is not None and op.name in ("diag.map", "diag.contract")


def _before_rounding(value: ir.Value) -> ir.Value | None:
    """The wire of f32 or f64 that a map rounds to this value, if it does nothing else."""
    op = defining_op(value)
    if op is None or op.name != "diag.map":
        return None
    rounded = scalar_result(op).owner.operation
    if rounded.name != "arith.truncf" or diag.is_wide_float(rounded.results[0].type):
        return None
    element = rounded.operands[0].owner.operation
    if element.name != "diag.element" or not diag.is_wide_float(element.results[0].type):
        return None
    wire = element.operands[0]
    return wire if diag.labels(wire) == diag.labels(value) else None


def _times(wire: ir.Value, factors: Sequence[_Factor], dtype: ir.Type) -> ir.Value:
    """A wire times factors, in the type of sums."""
    wires = [f.value for f in factors if isinstance(f.value, ir.Value)]

    def body(x: ir.Value, *scalars: ir.Value) -> ir.Value:
        value, rest = convert(x, dtype), iter(scalars)
        for factor in factors:
            number = factor.value
            other = (
                convert(next(rest), dtype)
                if isinstance(number, ir.Value)
                else arith.constant(dtype, number)
            )
            value = arith.divf(value, other) if factor.inverse else arith.mulf(value, other)
        return value

    return diag.map_([wire, *wires], body, result=diag.dims(wire), dtype=dtype)


# -- operands ------------------------------------------------------------------------------------


def _scaled(value: ir.Value, *, sixteen: bool) -> _Scaled | None:
    """An operand as narrow numbers times factors; None where it is anything else.

    One of 16 bits has a factor: what is only converted is left.
    """
    op = defining_op(value)
    if op is None or op.name != "diag.map":
        return None
    arrays: list[ir.Value] = []
    factors: list[_Factor] = []
    labels = set(diag.labels(value)) if sixteen else set()
    if not _collect(scalar_result(op), arrays, factors, labels, inverse=False):
        return None
    if len(arrays) != 1 or set(diag.labels(arrays[0])) != set(diag.labels(value)):
        return None
    found = _Scaled(arrays[0], factors)
    return found if factors or found.is_float8 else None


def _collect(
    scalar: ir.Value,
    arrays: list[ir.Value],
    factors: list[_Factor],
    labels: Collection[str],
    *,
    inverse: bool,
) -> bool:
    """The factors of a scalar of a map; whether it is such a product.

    Arrays are of f8, or of 16 bits where they have all of `labels`, of which there are some.
    """
    op = scalar.owner.operation
    collect = partial(_collect, arrays=arrays, factors=factors, labels=labels)
    if op.name == "arith.mulf":
        return all(collect(x, inverse=inverse) for x in op.operands)
    if op.name == "arith.divf":
        first, second = op.operands
        return collect(first, inverse=inverse) and collect(second, inverse=not inverse)
    if op.name == "arith.extf" or (
        op.name == "arith.truncf" and diag.is_wide_float(op.results[0].type)
    ):
        return collect(op.operands[0], inverse=inverse)
    if op.name == "arith.constant":
        factors.append(_Factor(float(ir.FloatAttr(op.attributes["value"]).value), inverse))
        return True
    if op.name != "diag.element":
        return False
    wire = op.operands[0]
    whole = _is_sixteen(scalar.type) and bool(labels) and set(diag.labels(wire)) == set(labels)
    if (diag.is_stored_float(scalar.type) or whole) and not inverse:
        arrays.append(wire)
    else:
        factors.append(_Factor(wire, inverse))
    return True


def _is_sixteen(type_: ir.Type) -> bool:
    return isinstance(type_, (ir.BF16Type, ir.F16Type))
