"""Take the scales of f8 numbers out of the operands of contractions, so that these are f8 arrays.

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

Requires: normalisers are expanded; run on functions.

Declines: operands that are no product with one array of f8 numbers that has all their axes; factors
along the summed axes where the other operand is of f8 itself, for then that would be computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """An array of f8 numbers times factors."""

    array: ir.Value
    factors: list[_Factor] = field(default_factory=list)


@dataclass(frozen=True)
class FactorScalesPass(Pass):
    """take the scales of f8 numbers out of the operands of contractions."""

    name: ClassVar[str] = "factor-scales"

    def run(self, op: ir.Operation) -> None:
        """Visit every contraction of the function."""
        with op.context:
            for inner in array_ops(op)[1:]:
                if inner.name == "diag.contract":
                    _visit(inner)


def _visit(op: ir.Operation) -> None:
    over = set(diag.strings(op.attributes["over"]))
    operands = [_scaled(value) for value in op.operands]
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
        lhs, rhs = (_times(a, f, acc) if f else a for a, f in zip(arrays, beside, strict=True))
        old = op.results[0]
        over, order = diag.strings(op.attributes["over"]), diag.labels(old)
        dtype = acc if behind else diag.element_type(old)
        kept = None if op.opview.optional("acc") is None else acc
        made = diag.contract(lhs, rhs, over, dtype=dtype, acc=kept, order=order)
        if behind:
            done(op, "scales of f8 numbers moved behind the sum")
            made = cast(_times(made, behind, acc), diag.element_type(old))
        if any(beside):
            done(op, "scales of f8 numbers moved to the other operand")
        old.replace_all_uses_with(made)
        op.erase()


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


def _scaled(value: ir.Value) -> _Scaled | None:
    """An operand as f8 numbers times factors; None where it is anything else."""
    op = defining_op(value)
    if op is None or op.name != "diag.map":
        return None
    arrays: list[ir.Value] = []
    factors: list[_Factor] = []
    if not _collect(scalar_result(op), arrays, factors, inverse=False) or len(arrays) != 1:
        return None
    (array,) = arrays
    return _Scaled(array, factors) if set(diag.labels(array)) == set(diag.labels(value)) else None


def _collect(
    scalar: ir.Value, arrays: list[ir.Value], factors: list[_Factor], *, inverse: bool
) -> bool:
    """The factors of a scalar of a map; whether it is such a product."""
    op = scalar.owner.operation
    if op.name == "arith.mulf":
        return all(_collect(x, arrays, factors, inverse=inverse) for x in op.operands)
    if op.name == "arith.divf":
        first, second = op.operands
        return _collect(first, arrays, factors, inverse=inverse) and _collect(
            second, arrays, factors, inverse=not inverse
        )
    if op.name == "arith.extf" or (op.name == "arith.truncf" and _is_wide(op.results[0].type)):
        return _collect(op.operands[0], arrays, factors, inverse=inverse)
    if op.name == "arith.constant":
        factors.append(_Factor(float(ir.FloatAttr(op.attributes["value"]).value), inverse))
        return True
    if op.name != "diag.element":
        return False
    wire = op.operands[0]
    if diag.is_stored_float(scalar.type) and not inverse:
        arrays.append(wire)
    else:
        factors.append(_Factor(wire, inverse))
    return True


def _is_wide(type_: ir.Type) -> bool:
    return isinstance(type_, (ir.F32Type, ir.F64Type))
