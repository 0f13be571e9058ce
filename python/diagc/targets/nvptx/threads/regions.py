"""The body of a group: the kernel's ops in order, streams as loops over chunks, results stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import Index
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.threads.evaluate import Evaluator
from diagc.targets.nvptx.threads.folds import Folds, contraction, reduction
from diagc.targets.nvptx.threads.layout import Point, Span
from diagc.targets.nvptx.threads.parts import yielded
from diagc.targets.nvptx.threads.splits import Split
from diagc.targets.nvptx.threads.wires import GlobalWire

__all__ = ["Regions"]

LAZY = ("diag.map", "diag.relabel", "diag.reindex", "diag.chunk", "diag.index", "diag.constant")
"""Ops that are computed where they are read."""


@dataclass
class Regions:
    """Emits ops of a kernel for one group of threads.

    Args:
        values: what is known.
        chunks: positions of each streamed axis that are worked on at a time.
        rows: the axis whose positions are given to the groups of a block, and how many these are.
        exists: whether the row of this group exists; None where it always does.
        needed: values that are made; others are left out.
        split: the stream that blocks share, if there is one.
    """

    values: Evaluator
    chunks: Mapping[str, int]
    rows: tuple[str, int] | None
    exists: ir.Value | None
    needed: frozenset[ir.Value]
    split: Split | None = None

    def __post_init__(self) -> None:
        """Names for what is used all the time."""
        self.code, self.frame = self.values.code, self.values.frame
        self.folds = Folds(self.values)
        self.ends = False

    def run(self, ops: Sequence[ir.Operation]) -> None:
        """Emit folds and streams; everything else waits until it is read."""
        for op in ops:
            if self.ends:
                return
            if op.name in ("diag.reduce", "diag.contract") and op.results[0] not in self.needed:
                continue
            with op.location:
                self._emit(op)

    def _emit(self, op: ir.Operation) -> None:
        if op.name == "diag.reduce":
            self.folds.fold(reduction(op))
        elif op.name == "diag.contract":
            self.folds.fold(contraction(op))
        elif op.name == "diag.stream":
            self._stream(op)
        elif op.name not in (*LAZY, "diag.yield", "arith.constant"):
            raise UnsupportedError(op.name, reason="in a GPU kernel", location=op.location)

    # -- results -----------------------------------------------------------------------------------
    def store(self, value: ir.Value, wire: GlobalWire) -> None:
        """Write a result of the kernel."""
        for group in self._vectors(value, wire):
            numbers = [self.values.value(value, point.at) for point in group]
            pointer = self.values.address(wire, group[0].at)
            self.code.guarded(self._writes(value, group[0]), self._writer(wire, numbers, pointer))

    def _writer(
        self, wire: GlobalWire, numbers: list[ir.Value], pointer: ir.Value
    ) -> Callable[[], None]:
        if len(numbers) == 1:
            return lambda: self.code.store(numbers[0], pointer, wire.element)
        return lambda: self.code.store_vector(numbers, pointer, wire.element)

    def _vectors(self, value: ir.Value, wire: GlobalWire) -> list[list[Point]]:
        """Positions of a value that this thread holds, neighbours in memory together."""
        value = self.values.canonical(value)
        held = frozenset(self.values.dealt(value))
        self.folds.prepare(value, held, held)
        groups: list[list[Point]] = []
        for point in self.values.points(diag.labels(value)):
            if self._continues(point, wire):
                groups[-1].append(point)
            else:
                groups.append([point])
        return groups

    def _continues(self, point: Point, wire: GlobalWire) -> bool:
        """Whether a position follows the one before it in one vector access."""
        unit = wire.unit
        if unit is None or unit not in point.at or not wire.has_vectors(self.frame, unit):
            return False
        return point.at[unit].step > 0

    def _writes(self, value: ir.Value, point: Point) -> ir.Value | None:
        """Whether this thread writes: what all threads hold is written by the first."""
        return self.code.both(self._holds(value, point), self.exists)

    # -- streams -----------------------------------------------------------------------------------
    def _stream(self, op: ir.Operation) -> None:
        """States are carried by the loop, at the positions that this thread holds."""
        init, body, tail = (op.regions[i].blocks[0] for i in (0, 1, 3))
        numbers = [i for i, state in enumerate(body.arguments) if state in self.needed]
        if not numbers and len(body.arguments):
            return
        split = self.split if self.split is not None and self.split.stream == op else None
        states = [body.arguments[i] for i in numbers]
        points = [self.values.points(diag.labels(state)) for state in states]
        with self.values.scope():
            start = self._evaluate(init, [yielded(init)[i] for i in numbers], points)
        if split is not None and split.joins:
            found = self._join(op, split, numbers, points, start)
        else:
            found = self._chunks(op, split, numbers, points, start)
        if split is not None and not split.joins:
            self._keep(split, states, points, found)
            self.ends = True
            return
        self._define(states, points, found)
        self.run([inner.operation for inner in tail.operations])

    def _chunks(
        self,
        op: ir.Operation,
        split: Split | None,
        numbers: Sequence[int],
        points: Sequence[Sequence[Point]],
        start: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """The states after all chunks, or after those of this part."""
        axis = str(ir.StringAttr(op.attributes["axis"]).value)
        body = op.regions[1].blocks[0]
        following = [yielded(body)[i] for i in numbers]
        chunk, size = self.chunks[axis], self.frame.sizes[axis]
        low, high = self._bounds(op, axis)
        if split is not None:
            low, high = split.bounds(self.code, low, high, chunk)

        def step(base: Index, carried: list[ir.Value]) -> list[ir.Value]:
            with self.values.scope():
                self.frame.spans[axis] = Span(base, chunk, size)
                self._define([body.arguments[i] for i in numbers], points, carried)
                return self._evaluate(body, following, points)

        return self.code.loop(low, high, chunk, start, step)

    def _keep(
        self,
        split: Split,
        states: Sequence[ir.Value],
        points: Sequence[Sequence[Point]],
        numbers: Sequence[ir.Value],
    ) -> None:
        """Leave the states of a part in scratch memory."""
        rest = list(numbers)
        for i, (state, held) in enumerate(zip(states, points, strict=True)):
            for point in held:
                place = split.address(self.code, self.frame, i, state, split.part, point.at)
                self.code.guarded(self._holds(state, point), self._storing(rest.pop(0), place))

    def _storing(self, number: ir.Value, place: ir.Value) -> Callable[[], None]:
        return lambda: self.code.store(number, place, number.type)

    def _holds(self, value: ir.Value, point: Point) -> ir.Value | None:
        """Whether this thread stands for a position: what all hold is the first one's."""
        if self.values.dealt(value) or self.frame.group == 1:
            return point.valid
        return arith.cmpi(arith.CmpIPredicate.eq, self.frame.lane, self.code.index(0))

    def _join(
        self,
        op: ir.Operation,
        split: Split,
        numbers: Sequence[int],
        points: Sequence[Sequence[Point]],
        start: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """Fold the states of all parts, in order."""
        combine = op.regions[2].blocks[0]
        count = len(combine.arguments) // 2
        ours = [combine.arguments[i] for i in numbers]
        theirs = [combine.arguments[count + i] for i in numbers]
        joined = [yielded(combine)[i] for i in numbers]

        def step(part: Index, carried: list[ir.Value]) -> list[ir.Value]:
            with self.values.scope():
                self._define(ours, points, carried)
                for i, (state, held) in enumerate(zip(theirs, points, strict=True)):
                    for point in held:
                        place = split.address(self.code, self.frame, i, state, part, point.at)
                        element = compute_type(diag.element_type(state))
                        self.values.define(state, point.at, self.code.load(place, element))
                return self._evaluate(combine, joined, points)

        return self.code.loop(0, split.parts, 1, start, step)

    def _evaluate(
        self, block: ir.Block, wanted: Sequence[ir.Value], points: Sequence[Sequence[Point]]
    ) -> list[ir.Value]:
        """Values that a region yields, at the positions of each state."""
        self.run([op.operation for op in block.operations])
        numbers: list[ir.Value] = []
        for value, held in zip(wanted, points, strict=True):
            dealt = frozenset(self.values.dealt(value))
            self.folds.prepare(value, dealt, dealt)
            numbers += [self.values.value(value, point.at) for point in held]
        return numbers

    def _define(
        self,
        states: Sequence[ir.Value],
        points: Sequence[Sequence[Point]],
        numbers: Sequence[ir.Value],
    ) -> None:
        rest = list(numbers)
        for state, held in zip(states, points, strict=True):
            for point in held:
                self.values.define(state, point.at, rest.pop(0))

    # -- bounds of streams -------------------------------------------------------------------------
    def _bounds(self, op: ir.Operation, axis: str) -> tuple[Index, Index]:
        """The chunks that some group of the block visits: the same for all, as they meet inside."""
        low: Index = 0
        high: Index = self.frame.sizes[axis]
        if "diag.upper" in op.attributes:
            high = self.code.max(self.code.min(high, self._bound(op, "diag.upper", last=True)), 0)
        if "diag.lower" in op.attributes:
            low = self.code.max(self._bound(op, "diag.lower", last=False), 0)
            low = self.code.floor_to(self.code.min(low, high), self.chunks[axis])
        if len(op.operands):
            high = arith.select(
                self._wanted(op.operands[0]), self.code.index(high), self.code.index(0)
            )
            low = 0 if isinstance(low, int) else self.code.min(low, high)
        return low, high

    def _bound(self, op: ir.Operation, name: str, *, last: bool) -> Index:
        """A bound at the first or last position of the block: it grows with every position."""
        affine = ir.AffineMapAttr(op.attributes[name]).value
        axes = [ir.StringAttr(a).value for a in op.attributes["diag.bound_axes"]]
        sizes: list[Index] = []
        if "diag.bound_sizes" in op.attributes:
            sizes = [
                self.frame.sizes[ir.StringAttr(a).value] for a in op.attributes["diag.bound_sizes"]
            ]
        places = [self._end(label, last=last) for label in axes]
        return self._linear(affine.results[0], places, sizes)

    def _end(self, label: str, *, last: bool) -> Index:
        code, frame = self.code, self.frame
        if label not in frame.fixed:
            span = frame.span(label)
            if not last:
                return span.base
            return code.sub(code.min(code.add(span.base, span.extent), span.size), 1)
        whole = frame.fixed[label].whole
        if self.rows is None or label != self.rows[0]:
            return whole
        first = frame.fixed[label].local
        if not last:
            return first
        return code.min(code.add(first, self.rows[1] - 1), code.sub(frame.sizes[label], 1))

    def _linear(
        self, expr: ir.AffineExpr, places: Sequence[Index], sizes: Sequence[Index]
    ) -> Index:
        if isinstance(expr, ir.AffineConstantExpr):
            return int(expr.value)
        if isinstance(expr, ir.AffineDimExpr):
            return places[expr.position]
        if isinstance(expr, ir.AffineSymbolExpr):
            return sizes[expr.position]
        for kind, join in ((ir.AffineAddExpr, self.code.add), (ir.AffineMulExpr, self.code.mul)):
            if isinstance(expr, kind):
                return join(*(self._linear(e, places, sizes) for e in (expr.lhs, expr.rhs)))
        raise ValueError(f"bound {expr} is not linear")

    def _wanted(self, condition: ir.Value) -> ir.Value:
        """Whether any row of the block wants a stream's results."""
        code = self.code
        flag: ir.Value = code.scalar(code.i1, 0)
        held = frozenset(self.values.dealt(condition))
        self.folds.prepare(condition, held, held)
        for point in self.values.points(diag.labels(condition)):
            wanted = self.values.value(condition, point.at)
            flag = arith.ori(flag, code.both(wanted, code.both(point.valid, self.exists)))
        return self.folds.any_of_block(flag)
