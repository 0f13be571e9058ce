"""Split reductions along a padded axis into those of the middle and a few positions beside it.

Before (attention with a sink: a score is joined to each row, and its weight is dropped again):

    %p = "diag.pad"(%s) {axis = "x", to = "p", low = 0, high = 1}
    %t = "diag.map"() ({ select(p == n, sink, %p) })
    %z = "diag.reduce"(%t) {over = ["p"], kind = "add"}
    %r = "diag.reindex"(%t) {map = (q, x) -> (q, x)}

After:

    %a = "diag.map"() ({ select(x == n, sink, %s) })
    %b = "diag.map"() ({ select(n == n, sink, 0) })
    %y = "diag.reduce"(%a) {over = ["x"], kind = "add"}
    %z = "diag.map"() ({ y + b })
    %r = %a

A reduction is a monoid: what it gives for a row is what it gives for parts of the row, combined.
Everything else along the axis (maps, contractions that keep it, slices) is done for each part. So
the padded array, which no stream could make, is gone.

Requires: normalisers are expanded; run on functions. Static sizes.

Declines: more than four positions of padding; any other use of the padded axis, such as windows of
a convolution, a result, a relabel; an axis that nothing reduces; sums in 16 bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from diagc.algebra.dataflow import carries, elements, reduced_axes
from diagc.algebra.maps import full
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.base import Pass
from diagc.passes.canonical.axis_renaming import merge_labels
from diagc.passes.canonical.canonicalize_diag import canonicalize_diag, erase_dead_ops
from diagc.passes.cloning import clone
from diagc.passes.remarks import done

__all__ = ["SplitPadsPass"]

MOST_POSITIONS = 4
"""Each is computed by ops of its own."""


@dataclass(frozen=True)
class SplitPadsPass(Pass):
    """split reductions along an axis that is padded by a few positions."""

    name: ClassVar[str] = "split-pads"

    def run(self, op: ir.Operation) -> None:
        """Split every padded axis of the function that can be."""
        for block in op.regions[0].blocks:
            pads = [v.operation for v in block.operations if v.operation.name == "diag.pad"]
            for axis in dict.fromkeys(_string(pad, "to") for pad in pads):
                plan = _plan(block, axis)
                if plan is not None:
                    plan.apply()
                    erase_dead_ops(op)
                    _merge_slices(op, plan)
                    canonicalize_diag(op)  # conditions on the position are decided now


def _merge_slices(function: ir.Operation, split: "_Split") -> None:
    """Let axes that are the whole middle be the middle, so that one loop runs along both."""
    for label in dict.fromkeys(split.slices):
        if label != split.inner:
            merge_labels(function, label, split.inner)


def _string(op: ir.Operation, name: str) -> str:
    return str(ir.StringAttr(op.attributes[name]).value)


def _integer(op: ir.Operation, name: str) -> int:
    return int(ir.IntegerAttr(op.attributes[name]).value)


def _plan(block: ir.Block, axis: str) -> "_Split | None":
    """How an axis is split, if every op along it has a rule."""
    ops = [v.operation for v in block.operations if _is_along(v.operation, axis)]
    pads = [op for op in ops if op.name == "diag.pad" and _string(op, "to") == axis]
    extents = {(_integer(p, "low"), _integer(p, "high")) for p in pads}
    reduced = any(axis in reduced_axes(op) for op in ops)
    if len(extents) != 1 or not reduced or not all(_has_rule(op, axis) for op in ops):
        return None
    ((low, high),) = extents
    inner = _string(pads[0], "axis")
    size = diag.dims(pads[0].operands[0])[inner]
    if size == diag.DYNAMIC or not 0 < low + high <= MOST_POSITIONS:
        return None
    split = _Split(ops, axis, inner, size, low, high)
    return split if all(split.fits(op) for op in ops) else None


def _is_along(op: ir.Operation, axis: str) -> bool:
    read = [e.operands[0] for e in elements(op)] if op.name == "diag.map" else op.operands
    return any(carries(value, axis) for value in (*op.results, *read))


def _has_rule(op: ir.Operation, axis: str) -> bool:
    if op.name in ("diag.reduce", "diag.contract"):
        kind = _string(op, "kind") if op.name == "diag.reduce" else "add"
        wide = str(diag.element_type(op.results[0])) in ("f32", "f64")
        return axis not in reduced_axes(op) or (kind in _COMBINE and wide)
    return op.name in ("diag.pad", "diag.index", "diag.map", "diag.reindex")


_COMBINE: dict[str, Callable[[ir.Value, ir.Value], ir.Value]] = {
    "add": arith.addf,
    "mul": arith.mulf,
    "max": arith.maximumf,
    "min": arith.minimumf,
}


@dataclass
class _Split:
    """An axis as a middle and positions beside it, and what every wire along it is on each.

    Args:
        ops: all ops along the axis, in order.
        axis: the padded axis.
        inner: the axis of the middle.
        size: of the middle.
        low: how many positions lie before the middle.
        high: how many lie behind it.
    """

    ops: Sequence[ir.Operation]
    axis: str
    inner: str
    size: int
    low: int
    high: int
    middle: dict[ir.Value, ir.Value] = field(default_factory=dict)
    beside: list[dict[ir.Value, ir.Value]] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    """Axes that took the middle as it is."""

    def fits(self, op: ir.Operation) -> bool:
        """Whether the rule of an op applies: a view takes one position, or a run of the middle."""
        if carries(op.results[0], self.axis) and carries(op.results[0], self.inner):
            return False  # the middle would have the axis twice
        if op.name == "diag.pad":
            return not carries(op.operands[0], self.axis)
        if op.name == "diag.reindex":
            return carries(op.operands[0], self.axis) and self._window(op) is not None
        return True

    def apply(self) -> None:
        """Compute the middle and the positions apart, and combine them where they are reduced."""
        done(
            self.ops[0], f'axis "{self.axis}" is split into "{self.inner}" and what it is padded by'
        )
        places = self._places()
        self.beside = [{} for _ in places]
        for op in self.ops:
            with ir.InsertionPoint(op), op.location:
                if self.axis in reduced_axes(op):
                    op.results[0].replace_all_uses_with(self._combined(op))
                elif op.name == "diag.reindex":
                    op.results[0].replace_all_uses_with(self._sliced(op))
                else:
                    self.middle[op.results[0]] = self._part(op, None)
                    for known, place in zip(self.beside, places, strict=True):
                        known[op.results[0]] = self._part(op, place, known)

    def _part(
        self, op: ir.Operation, place: int | None, known: dict[ir.Value, ir.Value] | None = None
    ) -> ir.Value:
        """The result of an op in the middle, or at one place beside it."""
        known = self.middle if known is None else known
        if op.name == "diag.pad":
            return self._unpadded(op) if place is None else self._filled(op)
        if op.name == "diag.index":
            return self._positions(op, place)
        self._read(op, place, known)
        copy = clone(op, dict(known))
        if place is None and self.axis in reduced_axes(op):
            over = [self.inner if x == self.axis else x for x in reduced_axes(op)]
            copy.attributes["over"] = diag.string_array(over)
        copy.results[0].set_type(self._type(op.results[0], place))
        return copy.results[0]

    def _read(self, op: ir.Operation, place: int | None, known: dict[ir.Value, ir.Value]) -> None:
        """Views of what an op reads along the axis and that no op of the plan made."""
        read = [e.operands[0] for e in elements(op)] if op.name == "diag.map" else op.operands
        for value in read:
            if carries(value, self.axis) and value not in known:
                known[value] = self._view(value, place)

    def _view(self, value: ir.Value, place: int | None) -> ir.Value:
        dims = diag.dims(value)
        kept = self._sizes(dims, place)
        numbers = {label: number for number, label in enumerate(kept)}
        start = ir.AffineExpr.get_constant(self.low if place is None else place)
        results = []
        for label in dims:
            if label != self.axis:
                results.append(ir.AffineExpr.get_dim(numbers[label]))
            elif place is None:
                results.append(ir.AffineExpr.get_dim(numbers[self.inner]) + self.low)
            else:
                results.append(start)
        return diag.reindex(value, kept, ir.AffineMap.get(len(kept), 0, results))

    def _sizes(self, dims: dict[str, int], place: int | None) -> dict[str, int]:
        sizes = {}
        for label, size in dims.items():
            if label != self.axis:
                sizes[label] = size
            elif place is None:
                sizes[self.inner] = self.size
        return sizes

    def _type(self, value: ir.Value, place: int | None) -> ir.Type:
        return diag.wire(self._sizes(diag.dims(value), place), diag.element_type(value))

    def _unpadded(self, op: ir.Operation) -> ir.Value:
        axis = _string(op, "axis")
        source = op.operands[0]
        return source if axis == self.inner else diag.relabel(source, {axis: self.inner})

    def _filled(self, op: ir.Operation) -> ir.Value:
        dims = self._sizes(diag.dims(op.results[0]), 0)
        number = ir.FloatAttr(op.attributes["value"]).value
        return full(number, dims, diag.element_type(op.results[0]))

    def _positions(self, op: ir.Operation, place: int | None) -> ir.Value:
        index = ir.IndexType.get()
        if place is not None:
            return diag.constant(place, dtype=index)
        positions = diag.index(self.inner, self.size)
        if not self.low:
            return positions
        return diag.map_([positions], lambda n: arith.addi(n, arith.constant(index, self.low)))

    def _combined(self, op: ir.Operation) -> ir.Value:
        """A reduction of the middle, combined with those of the places beside it."""
        kind = _string(op, "kind") if op.name == "diag.reduce" else "add"
        parts = [self._part(op, None)]
        places = self._places()
        for known, place in zip(self.beside, places, strict=True):
            self._read(op, place, known)
            parts.append(self._reduced_beside(op, [known.get(v, v) for v in op.operands], kind))

        def combine(first: ir.Value, *others: ir.Value) -> ir.Value:
            for other in others:
                first = _COMBINE[kind](first, other)
            return first

        return diag.map_(parts, combine, result=diag.dims(op.results[0]))

    def _reduced_beside(
        self, op: ir.Operation, operands: Sequence[ir.Value], kind: str
    ) -> ir.Value:
        rest = [x for x in reduced_axes(op) if x != self.axis]
        if op.name == "diag.contract":
            dtype = diag.element_type(op.results[0])
            order = diag.labels(op.results[0])
            lhs, rhs = operands
            return diag.contract(lhs, rhs, rest, dtype=dtype, order=order)
        return diag.reduce(operands[0], rest, kind) if rest else operands[0]

    def _sliced(self, op: ir.Operation) -> ir.Value:
        """A view of one place, or of a run of the middle."""
        window = self._window(op)
        assert window is not None
        start, dim = window
        source, result = op.operands[0], diag.dims(op.results[0])
        map_ = ir.AffineMapAttr(op.attributes["map"]).value
        exprs = list(map_.results)
        number = list(diag.labels(source)).index(self.axis)
        place = start if dim is None and not 0 <= start - self.low < self.size else None
        known = self.middle if place is None else self.beside[self._places().index(place)]
        self._read(op, place, known)
        if place is not None:
            del exprs[number]
        elif dim is None:
            exprs[number] = ir.AffineExpr.get_constant(start - self.low)
        else:
            exprs[number] = ir.AffineExpr.get_dim(dim) + (start - self.low)
            if list(result.values())[dim] == self.size:
                self.slices.append(list(result)[dim])
        view = ir.AffineMap.get(map_.n_dims, 0, exprs)
        return diag.reindex(known[source], result, view)

    def _places(self) -> list[int]:
        after = self.low + self.size
        return [*range(self.low), *range(after, after + self.high)]

    def _window(self, op: ir.Operation) -> tuple[int, int | None] | None:
        """Where a view starts along the axis, and the dim of its result that runs on from there.

        None unless it stays in the middle, or takes one place.
        """
        map_ = ir.AffineMapAttr(op.attributes["map"]).value
        number = list(diag.labels(op.operands[0])).index(self.axis)
        expr = list(map_.results)[number]
        if isinstance(expr, ir.AffineConstantExpr):
            return expr.value, None
        start = 0
        if isinstance(expr, ir.AffineAddExpr) and isinstance(expr.rhs, ir.AffineConstantExpr):
            expr, start = expr.lhs, expr.rhs.value
        if not isinstance(expr, ir.AffineDimExpr):
            return None
        dim = expr.position
        size = list(diag.dims(op.results[0]).values())[dim]
        inside = start >= self.low and start + size <= self.low + self.size
        return (start, dim) if inside and size != diag.DYNAMIC else None
