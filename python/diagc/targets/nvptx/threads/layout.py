"""Which thread holds which position: axes fixed, tiled, local; groups of threads over domains.

A block of threads is cut into groups of equal, power-of-two size. A group works on one position of
every *fixed* axis (the grid, and one position of the row axis for each group). All other axes of a
value are *local*, with a static extent: the whole axis, or a tile of it (a `Span`). The positions
of a set of local axes, its *domain*, are dealt out to the threads of a group in vectors, the last
axis fastest; *unrolled* axes are not dealt out: every thread holds all of their positions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from diagc.errors import InternalError
from diagc.mlir import arith, ir
from diagc.targets.elementwise.code import Index
from diagc.targets.nvptx.threads.code import GpuCode

__all__ = ["At", "Frame", "Point", "Pos", "Span"]


@dataclass(eq=False)
class Pos:
    """A position along one axis; compared by identity, as what is known of it is kept by it.

    Args:
        local: inside the span.
        whole: along the whole axis.
        head: the first position of the vector that it is part of, which may be itself.
        step: its place in that vector.
        width: positions of the vector.
    """

    local: Index
    whole: Index
    head: "Pos | None" = None
    step: int = 0
    width: int = 1


At = Mapping[str, Pos]


@dataclass(frozen=True)
class Span:
    """A tile of an axis: its first position, its static extent, and the size of the whole axis."""

    base: Index
    extent: int
    size: Index

    @property
    def is_whole(self) -> bool:
        """Whether every position of the tile exists."""
        return self.size == self.extent and self.base == 0


@dataclass(frozen=True)
class Point:
    """One position of a domain as a thread holds it; `valid` is None where it always exists."""

    at: At
    valid: ir.Value | None


@dataclass
class Frame:
    """The axes of a group.

    Args:
        code: where code goes.
        group: threads of a group.
        lane: number of the thread in its group.
        row: number of the group in its block.
        fixed: position of every axis of the grid.
        sizes: size of every axis.
        unrolled: local axes that every thread holds whole.
        order: orders axes as they lie in memory.
        vector: widest vector along an axis.
    """

    code: GpuCode
    group: int
    lane: ir.Value
    row: ir.Value
    fixed: Mapping[str, Pos]
    sizes: Mapping[str, Index]
    unrolled: frozenset[str]
    order: Sequence[str]
    vector: Mapping[str, int]
    spans: dict[str, Span] = field(default_factory=dict)

    def span(self, label: str) -> Span:
        """The part of a local axis that the group works on now."""
        if label in self.spans:
            return self.spans[label]
        size = self.sizes[label]
        if not isinstance(size, int):
            raise InternalError(f"axis '{label}' of open size is local to a block")
        return Span(0, size, size)

    def is_open(self, label: str) -> bool:
        """Whether a local axis has a size that is known at the launch only, and no tile now."""
        if label in self.spans or label in self.fixed:
            return False
        return not isinstance(self.sizes[label], int)

    def local(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The axes among `labels` that are not fixed, in canonical order."""
        found = {label for label in labels if label not in self.fixed}
        rank = {label: i for i, label in enumerate(self.order)}
        return tuple(sorted(found, key=lambda label: (rank.get(label, -1), label)))

    def dealt(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The axes that are dealt out to threads, in canonical order."""
        return tuple(label for label in self.local(labels) if label not in self.unrolled)

    def extent(self, labels: Iterable[str]) -> int:
        """Positions of a domain."""
        return prod(self.span(label).extent for label in labels)

    def corners(self, labels: Iterable[str]) -> list[dict[str, Pos]]:
        """Every position of the unrolled axes among `labels`."""
        kept = [label for label in self.local(labels) if label in self.unrolled]
        ranges = [range(self.span(label).extent) for label in kept]
        return [
            {label: self._constant(label, i) for label, i in zip(kept, digits, strict=True)}
            for digits in product(*ranges)
        ]

    def __post_init__(self) -> None:
        """Positions of unrolled axes are shared by all domains."""
        self._constants: dict[tuple[str, int], Pos] = {}

    def _constant(self, label: str, number: int) -> Pos:
        return self._constants.setdefault((label, number), Pos(number, number))

    # -- dealing out -------------------------------------------------------------------------------
    def width(self, dealt: Sequence[str]) -> int:
        """Positions of a vector: no wider than needed to give every thread of the group one."""
        if not dealt:
            return 1
        last, count = dealt[-1], self.extent(dealt)
        width = self.vector.get(last, 1)
        while width > 1 and (self.span(last).extent % width or count < width * self.group):
            width //= 2
        return width

    def deal(self, dealt: Sequence[str]) -> list[Point]:
        """Positions of a domain that this thread holds, vectors side by side."""
        if not dealt:
            return [Point({}, None)]
        width, count = self.width(dealt), self.extent(dealt)
        vectors = count // width
        points: list[Point] = []
        for k in range(-(-vectors // self.group)):
            points += self._vector(dealt, k, width, vectors)
        return points

    def _vector(self, dealt: Sequence[str], k: int, width: int, vectors: int) -> list[Point]:
        code = self.code
        number: Index = code.add(self.lane, k * self.group)
        valid: ir.Value | None = None
        if (k + 1) * self.group > vectors:
            valid = code.less(number, vectors)
            number = code.min(number, vectors - 1)
        at: dict[str, Pos] = {}
        for label in reversed(dealt):
            last = label == dealt[-1]
            extent = self.span(label).extent // (width if last else 1)
            digit = number
            if label != dealt[0]:
                digit = arith.remui(code.index(number), code.index(extent))
                number = arith.divui(code.index(number), code.index(extent))
            local = code.mul(digit, width) if last else digit
            at[label], exists = self.position(label, local, width if last else 1)
            valid = code.both(valid, exists)
        return [Point({**at, **self._steps(dealt, at, i, width)}, valid) for i in range(width)]

    def _steps(self, dealt: Sequence[str], at: At, step: int, width: int) -> dict[str, Pos]:
        if width == 1 or step == 0:
            return {}
        head = at[dealt[-1]]
        return {dealt[-1]: self.next(head, step)}

    def next(self, head: Pos, step: int) -> Pos:
        """Place `step` of a vector."""
        add = self.code.add
        return Pos(add(head.local, step), add(head.whole, step), head, step, head.width)

    def position(self, label: str, local: Index, width: int) -> tuple[Pos, ir.Value | None]:
        """A position, moved to the last that exists if need be, and whether it exists itself."""
        code, span = self.code, self.span(label)
        exists: ir.Value | None = None
        whole = code.add(span.base, local)
        if not span.is_whole:
            exists = code.less(whole, span.size)
            whole = code.min(whole, code.sub(span.size, width))
            local = code.sub(whole, span.base)
        found = Pos(local, whole, width=width)
        if width > 1:
            found.head = found
        return found, exists
