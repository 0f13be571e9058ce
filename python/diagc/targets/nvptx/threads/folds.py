"""Reductions and contractions of a group: across its threads, or each thread on its own.

Where nothing of the result is dealt out, every thread reduces what it holds of the operand's domain
and the threads combine (shuffles, then shared memory between warps); all of them get the result.
Else every thread works out the positions of the result that it holds, in a loop over what is
reduced. Both have one fixed order: results are the same every time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from diagc.dialects import diag
from diagc.dialects.diag.monoids import MONOIDS, identity_attr
from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import Index
from diagc.targets.elementwise.scalars import compute_type
from diagc.targets.nvptx.threads.code import WARP, memory_bytes
from diagc.targets.nvptx.threads.evaluate import Evaluator
from diagc.targets.nvptx.threads.layout import At, Pos, Span

__all__ = ["Fold", "Folds", "contraction", "reduction"]

Combine: TypeAlias = Callable[[ir.Value, ir.Value], ir.Value]

EXPENSIVE = ("arith.divf", "arith.remf")
"""Ops of arith that, like all of math, are not repeated for every reader on other axes."""

TILE_VECTORS = 2
"""Vectors of an axis of open size that a thread loads side by side."""

CHAINS = 4
"""Sums that a thread keeps side by side, so that additions need not wait for each other."""


@dataclass(frozen=True)
class Fold:
    """One reduction: `operands` at every position of the domain, folded along `over`.

    Args:
        result: the wire it makes.
        operands: what it reads: one wire, or two whose product is summed.
        over: axes folded away.
        kind: the monoid.
        element: type that it computes in.
    """

    result: ir.Value
    operands: tuple[ir.Value, ...]
    over: tuple[str, ...]
    kind: str
    element: ir.Type

    @property
    def labels(self) -> tuple[str, ...]:
        """Every axis that it touches."""
        return tuple(dict.fromkeys(x for value in self.operands for x in diag.labels(value)))


def reduction(op: ir.Operation) -> Fold:
    """The fold of a `diag.reduce`."""
    over = tuple(diag.strings(op.attributes["over"]))
    kind = ir.StringAttr(op.attributes["kind"]).value
    element = compute_type(diag.element_type(op.results[0]))
    return Fold(op.results[0], (op.operands[0],), over, kind, element)


def contraction(op: ir.Operation) -> Fold:
    """The fold of a `diag.contract`: sums are kept in f32, or in f64 where an operand is."""
    types = [diag.element_type(value) for value in (*op.operands, *op.results)]
    wide = any(isinstance(type_, ir.F64Type) for type_ in types)
    element = ir.F64Type.get() if wide else ir.F32Type.get()
    over = tuple(diag.strings(op.attributes["over"]))
    return Fold(op.results[0], (op.operands[0], op.operands[1]), over, "add", element)


@dataclass
class Folds:
    """Emits folds, and sees to it that what they read can be read."""

    values: Evaluator

    def __post_init__(self) -> None:
        """Names for what is used all the time."""
        self.code, self.frame = self.values.code, self.values.frame

    # -- what lies where ---------------------------------------------------------------------------
    def prepare(self, value: ir.Value, held: frozenset[str], whole: frozenset[str]) -> None:
        """Make a value readable: what other threads hold of it goes to shared memory.

        Args:
            value: of the kernel.
            held: dealt axes along which this thread reads its own positions.
            whole: all dealt axes of the positions where it is read.
        """
        values = self.values
        value = values.canonical(value)
        own = frozenset(values.dealt(value))
        if not own:
            self._evaluate_uniform(value)
        elif any(self.frame.is_open(label) for label in own) and self._is_map(value):
            for source in self._sources(value):  # too long for shared memory: computed again
                self.prepare(source, held, whole)
        elif own == held or (own == whole and self._is_map(value)):
            for source in self._sources(value) if self._is_map(value) else ():
                self.prepare(source, held, whole)
        elif self._is_anchored(value):
            values.share(value)
        elif self._is_map(value) and not self._is_cheap(value):
            self.prepare(value, own, own)
            values.share(value)
        if self._is_renamed(value):
            (source,) = self._sources(value)
            self.prepare(source, frozenset(values.dealt(source)), frozenset(values.dealt(source)))
            values.share(source)

    def _evaluate_uniform(self, value: ir.Value) -> None:
        """What all threads hold is computed now, not again and again inside of loops."""
        if self._is_map(value) and not self._is_constant(value):
            for corner in self.frame.corners(diag.labels(value)):
                self.values.value(value, corner)

    def _is_constant(self, value: ir.Value) -> bool:
        return not self._sources(value)

    def _is_map(self, value: ir.Value) -> bool:
        owner = value.owner
        return not isinstance(owner, ir.Block) and owner.operation.name == "diag.map"

    def _is_anchored(self, value: ir.Value) -> bool:
        if value in self.values.wires:
            return False
        owner = value.owner
        return isinstance(owner, ir.Block) or owner.operation.name in (
            "diag.reduce",
            "diag.contract",
        )

    def _is_renamed(self, value: ir.Value) -> bool:
        """Whether it is a value of the kernel's own under other names of axes."""
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "diag.relabel":
            return False
        source = self.values.canonical(owner.operation.operands[0])
        return self._is_anchored(source) or self._is_map(source) or self._is_renamed(source)

    def _sources(self, value: ir.Value) -> list[ir.Value]:
        """Wires that a map reads, or that a view looks at."""
        owner = value.owner
        if isinstance(owner, ir.Block):
            return []
        op = owner.operation
        if op.name != "diag.map":
            views = ("diag.relabel", "diag.chunk")
            return [self.values.canonical(v) for v in op.operands] if op.name in views else []
        elements = [e for e in diag.walk_ops(op.regions[0]) if e.name == "diag.element"]
        return list(dict.fromkeys(self.values.canonical(e.operands[0]) for e in elements))

    def _is_cheap(self, value: ir.Value) -> bool:
        """Whether a map of arrays in memory may be computed again wherever it is read."""
        value = self.values.canonical(value)
        if not self.values.dealt(value):
            return True
        if self._is_anchored(value):
            return False
        if self._is_map(value):
            ops = [op.name for op in diag.walk_ops(value.owner.operation.regions[0])]
            if any(name.startswith("math.") or name in EXPENSIVE for name in ops):
                return False
        return all(self._is_cheap(source) for source in self._sources(value))

    # -- folds -------------------------------------------------------------------------------------
    def fold(self, fold: Fold) -> None:
        """Emit a reduction or contraction."""
        frame = self.frame
        dealt = frame.dealt(fold.labels)
        kept = tuple(label for label in dealt if label not in fold.over)
        held = frozenset(kept or dealt)
        for operand in fold.operands:
            self.prepare(operand, held, frozenset(dealt))
        if kept:
            self._alone(fold, kept)
        else:
            self._together(fold, dealt)

    def _identity(self, fold: Fold) -> ir.Value:
        return arith.constant(fold.element, identity_attr(fold.kind, fold.element))

    def _element(self, fold: Fold, at: At) -> list[ir.Value]:
        """The operands at a position, in the type of the sums."""
        found = [self.values.value(operand, at) for operand in fold.operands]
        if not isinstance(fold.element, ir.F64Type):
            return found
        return [x if x.type == fold.element else arith.extf(fold.element, x) for x in found]

    def _add(self, fold: Fold, total: ir.Value, at: At, valid: ir.Value | None) -> ir.Value:
        element = self._element(fold, at)
        if len(element) == 2:
            joined = self.code.fma(element[0], element[1], total)
        else:
            joined = MONOIDS[fold.kind].combine(total, element[0])
        return joined if valid is None else arith.select(valid, joined, total)

    def _over_corners(self, fold: Fold) -> list[dict[str, Pos]]:
        return self.frame.corners(x for x in fold.labels if x in fold.over)

    # -- across the threads ------------------------------------------------------------------------
    def _together(self, fold: Fold, dealt: tuple[str, ...]) -> None:
        corners = self.frame.corners(diag.labels(fold.result))
        chains = CHAINS if any(self.frame.is_open(x) for x in dealt) else self._chains(fold, dealt)
        start = [self._identity(fold) for _ in range(chains * len(corners))]

        def add(totals: list[ir.Value]) -> list[ir.Value]:
            points = self.values.dealt_points(dealt)
            places = [(p, inner) for p in points for inner in self._over_corners(fold)]
            for i, corner in enumerate(corners):
                for number, (point, inner) in enumerate(places):
                    slot, at = i * chains + number % chains, {**corner, **inner, **point.at}
                    totals[slot] = self._add(fold, totals[slot], at, point.valid)
            return totals

        opened = [x for x in dealt if self.frame.is_open(x)]
        others = self.frame.extent(x for x in dealt if x not in opened)
        totals = self._tiles(opened, others, start, add)
        for i, corner in enumerate(corners):
            total = self._tree(fold, totals[i * chains : (i + 1) * chains])
            total = self.combine(fold.kind, total) if dealt else total
            self.values.define(fold.result, corner, total)

    def _chains(self, fold: Fold, dealt: tuple[str, ...]) -> int:
        count = len(self.values.dealt_points(dealt)) * len(self._over_corners(fold))
        return max(1, min(CHAINS, count))

    def _tiles(
        self,
        labels: Sequence[str],
        others: int,
        totals: list[ir.Value],
        body: Callable[[list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """Loops over tiles of axes of open size; the last is dealt out, others go one by one."""
        if not labels:
            return body(list(totals))
        label, rest = labels[0], labels[1:]
        width = self.frame.vector.get(label, 1)
        most = max(self.frame.group * width * TILE_VECTORS // others, width)
        extent = 1 if rest else most
        size = self.frame.sizes[label]

        def step(base: Index, carried: list[ir.Value]) -> Sequence[ir.Value]:
            with self.values.scope():
                self.frame.spans[label] = Span(base, extent, size)
                return self._tiles(rest, others, carried, body)

        return self.code.loop(0, size, extent, totals, step)

    def _tree(self, fold: Fold, totals: Sequence[ir.Value]) -> ir.Value:
        totals = list(totals)
        while len(totals) > 1:
            pairs = [totals[i : i + 2] for i in range(0, len(totals), 2)]
            totals = [MONOIDS[fold.kind].combine(*p) if len(p) == 2 else p[0] for p in pairs]
        return totals[0]

    def combine(self, kind: str, value: ir.Value) -> ir.Value:
        """Fold a number of every thread of the group; all of them get the result."""
        frame = self.frame
        return self._exchange(MONOIDS[kind].combine, value, frame.group, frame.lane, frame.row)

    def any_of_block(self, flag: ir.Value) -> ir.Value:
        """Whether a flag is set in any thread of the block; all threads call this."""
        code, values = self.code, self.values
        threads = values.shared.groups * self.frame.group
        word = arith.extui(code.i32, flag)
        word = self._exchange(arith.ori, word, threads, values.thread, 0)
        return arith.cmpi(arith.CmpIPredicate.ne, word, code.index(0))

    def _exchange(
        self, combine: Combine, value: ir.Value, group: int, lane: ir.Value, row: Index
    ) -> ir.Value:
        """Fold a number of every thread of group number `row` of groups of this size."""
        offset = min(group, WARP) // 2
        while offset:
            value = combine(value, self.code.shuffle_xor(value, offset))
            offset //= 2
        return value if group <= WARP else self._across_warps(combine, value, group, lane, row)

    def _across_warps(
        self, combine: Combine, value: ir.Value, group: int, lane: ir.Value, row: Index
    ) -> ir.Value:
        """Every warp leaves its number in shared memory; all threads fold them in one order."""
        code, values = self.code, self.values
        element, warps = value.type, group // WARP
        size = memory_bytes(element) * warps
        start = code.add(values.shared.allocate(size), code.mul(row, size))
        pointer = code.offset(values.shared_pointer, code.i8, start)
        place = code.offset(pointer, element, arith.divui(lane, code.index(WARP)))
        rest = arith.remui(lane, code.index(WARP))
        is_first = arith.cmpi(arith.CmpIPredicate.eq, rest, code.index(0))
        code.barrier()  # others may still read the last numbers
        code.when(is_first, lambda: code.store(value, place, element))
        code.barrier()
        numbers = [code.load(code.offset(pointer, element, i), element) for i in range(warps)]
        while len(numbers) > 1:
            pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
            numbers = [combine(*p) if len(p) == 2 else p[0] for p in pairs]
        return numbers[0]

    # -- every thread on its own -------------------------------------------------------------------
    def _alone(self, fold: Fold, kept: tuple[str, ...]) -> None:
        """A loop over what is reduced, all positions of the result that are held side by side."""
        points = [
            {**corner, **point.at}
            for corner in self.frame.corners(diag.labels(fold.result))
            for point in self.values.dealt_points(kept)
        ]
        over = tuple(x for x in self.frame.dealt(fold.labels) if x in fold.over)

        def step(at: Mapping[str, Pos], carried: list[ir.Value]) -> list[ir.Value]:
            totals = list(carried)
            for inner in self._over_corners(fold):
                for i, point in enumerate(points):
                    totals[i] = self._add(fold, totals[i], {**point, **inner, **at}, None)
            return totals

        totals = self._loops(over, {}, [self._identity(fold) for _ in points], step)
        for point, total in zip(points, totals, strict=True):
            self.values.define(fold.result, point, total)

    def _loops(
        self,
        over: Sequence[str],
        at: Mapping[str, Pos],
        carried: list[ir.Value],
        body: Callable[[Mapping[str, Pos], list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """Loops over the positions of axes that exist, the last in vectors."""
        if not over:
            return body(at, carried)
        code, label = self.code, over[0]
        base: Index
        end: Index
        width = self._width(over)
        if self.frame.is_open(label):
            base, end = 0, self.frame.sizes[label]
        else:
            span = self.frame.span(label)
            base, end = span.base, span.extent
            if not span.is_whole:
                end = code.min(code.sub(span.size, span.base), span.extent)

        def step(i: Index, values: list[ir.Value]) -> Sequence[ir.Value]:
            with self.values.scope():
                head = Pos(i, code.add(base, i), width=width)
                head.head = head if width > 1 else None
                for k in range(width):
                    pos = head if k == 0 else self.frame.next(head, k)
                    values = self._loops(over[1:], {**at, label: pos}, values, body)
                return values

        return code.loop(0, end, width, carried, step)

    def _width(self, over: Sequence[str]) -> int:
        """Neighbours that are worked on side by side: a vector of the last axis."""
        label = over[0]
        width = self.frame.vector.get(label, 1) if len(over) == 1 else 1
        while not self.frame.is_open(label) and self.frame.span(label).extent % width:
            width //= 2
        return width
