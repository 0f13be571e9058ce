"""Turns masks of streams into bounds of the loop.

A mask that is monotone in position gives an affine bound. One that compares the streamed position
with an integer of the row, as `first[q] <= x`, gives a bound that is read: the least and the
largest of those that the rows of a task read hold for all of them, in whatever order they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.canonical.position_forms import (
    Conjunction,
    Linear,
    mask_conditions,
    read_conditions,
)
from diagc.passes.cloning import array_ops
from diagc.passes.streams.exclusion import excludes

__all__ = ["KEEP", "LOWER", "UPPER", "Bound", "bound_streams", "find_bounds"]

UPPER, LOWER, AXES, KEEP = "diag.upper", "diag.lower", "diag.bound_axes", "diag.keep"


@dataclass(frozen=True)
class Read:
    """One end, `UPPER` or `LOWER`: what a `diag.element` of the mask reads, plus a number."""

    end: str
    element: ir.Operation
    offset: int

    def __str__(self) -> str:
        """Give the condition, by the name of the wire."""
        name = self.element.operands[0].get_name()
        return f"x {'<' if self.end == UPPER else '>='} {name} + {self.offset}"


@dataclass(frozen=True)
class Bound:
    """Positions of the streamed axis that a mask lets through: `lower <= x < upper`.

    `exact` when the mask is true for all of these and there is no `lower`; `reads` bound it too.
    """

    mask: ir.Operation
    upper: Linear | None
    lower: Linear | None
    exact: bool
    reads: tuple[Read, ...] = ()

    def __str__(self) -> str:
        """Give both ends."""
        text = f"{self.lower or 0} <= x < {self.upper or 'end'}{' exactly' if self.exact else ''}"
        return " and ".join([text, *map(str, self.reads)])


def find_bounds(stream: ir.Operation) -> list[Bound]:
    """Bounds from the masks in the body of a stream whose excluded positions change nothing."""
    axis = ir.StringAttr(stream.attributes["axis"]).value
    outer = set(diag.outer_operands(stream))
    found = []
    for block in stream.regions[1].blocks:
        for op in block.operations:
            bound = _bound(op.operation, axis, outer)
            if bound is not None and excludes(stream, op.operation):
                found.append(bound)
    return found


def _bound(mask: ir.Operation, axis: str, outer: set[ir.Value]) -> Bound | None:
    """The first upper and lower bounds among the conditions, if they grow with every position."""
    conditions = mask_conditions(mask) or Conjunction((), exact=False)
    uppers = [f.without(axis) + Linear((), 1) for f in conditions.forms if f.factor(axis) == -1]
    lowers = [f.without(axis).scaled(-1) for f in conditions.forms if f.factor(axis) == 1]
    upper = next((form for form in uppers if _grows(form)), None)
    lower = next((form for form in lowers if _grows(form)), None)
    reads = tuple(_reads(mask, axis, outer))
    if upper is None and lower is None and not reads:
        return None
    exact = conditions.exact and len(conditions.forms) == 1 and upper is not None
    return Bound(mask, upper, lower, exact, reads)


def _grows(form: Linear) -> bool:
    return all(factor > 0 for _, factor in form.factors)


def _reads(mask: ir.Operation, axis: str, outer: set[ir.Value]) -> Iterator[Read]:
    """Conditions that hold the streamed position against one integer from outside the stream."""
    for form in read_conditions(mask):
        (element, sign), *more = form.reads
        owner = element.owner.operation
        alone = not more and not form.without(axis).factors and sign == -form.factor(axis)
        if not alone or owner.operands[0] not in outer or axis in diag.labels(owner.operands[0]):
            continue
        if sign == 1:
            yield Read(UPPER, owner, form.constant + 1)
        elif sign == -1:
            yield Read(LOWER, owner, -form.constant)


def bound_streams(kernel: ir.Operation) -> None:
    """Set the bounds of every stream of a kernel and mark masks that they make true."""
    for op in array_ops(kernel):
        if op.name == "diag.stream" and UPPER not in op.attributes and LOWER not in op.attributes:
            _set_bounds(op, find_bounds(op))


def _set_bounds(stream: ir.Operation, bounds: list[Bound]) -> None:
    """One affine bound of each end is enough; an exact one is best: it frees whole chunks."""
    for read in (read for bound in bounds for read in bound.reads):
        number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), read.offset)
        read.element.attributes[read.end] = number
    ordered = sorted(bounds, key=lambda bound: not bound.exact)
    ends = {
        UPPER: next((bound.upper for bound in ordered if bound.upper is not None), None),
        LOWER: next((bound.lower for bound in ordered if bound.lower is not None), None),
    }
    forms = {name: form for name, form in ends.items() if form is not None}
    if not forms:
        return
    labels = sorted({label for form in forms.values() for label, _ in form.factors})
    stream.attributes[AXES] = diag.string_array(labels)
    for name, form in forms.items():
        stream.attributes[name] = _affine(form, labels)
    for bound in bounds:
        if bound.exact and bound.upper == ends[UPPER]:
            bound.mask.attributes[KEEP] = ir.UnitAttr.get()


def _affine(form: Linear, labels: list[str]) -> ir.AffineMapAttr:
    expr = ir.AffineExpr.get_constant(form.constant)
    for number, label in enumerate(labels):
        expr = expr + ir.AffineExpr.get_dim(number) * form.factor(label)
    return ir.AffineMapAttr.get(ir.AffineMap.get(len(labels), 0, [expr]))
