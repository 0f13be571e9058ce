"""Where a task stands: which positions of each axis it works on, and masks of what lies beyond."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Code, Index

__all__ = ["Frame", "Span"]

OPEN = 1 << 20  # what an axis of unknown size counts as, when axes are compared


@dataclass
class Span:
    """A tile of an axis that is longer than a task: the lane tile, or the current chunk.

    `base` is the first position, `count` how many of the `tile` positions exist. `ahead` is how far
    behind a position of this chunk the same one of the next lies, or the last that exists; None
    where there is no next. `count` is a multiple of `block`.
    """

    base: Index
    count: Index
    tile: int
    ahead: Index | None = None
    block: int = 1


@dataclass
class Frame:
    """The axes of one task.

    `grid` gives the one position of each grid axis, `spans` the tiles of lanes and stream axes,
    `static` the sizes of local axes, `sizes` the run-time size of every axis. An axis in none of
    the first three is open: it stays in the task whole, and scratch memory has its run-time size.
    Tiles of `padded` axes are computed in whole register blocks, with lanes that do not exist:
    contractions are best with blocks of one shape. `open_keep` says that the current chunk lies
    wholly inside the stream's bounds.
    """

    code: Code
    grid: dict[str, ir.Value]
    static: dict[str, int]
    sizes: dict[str, Index]
    spans: dict[str, Span] = field(default_factory=dict)
    padded: frozenset[str] = frozenset()
    open_keep: bool = False
    _whole: set[str] = field(default_factory=set)

    def base(self, label: str) -> Index:
        """What is added to a position in the task to give the position in memory."""
        if label in self.grid:
            return self.grid[label]
        return self.spans[label].base if label in self.spans else 0

    def is_open(self, label: str) -> bool:
        """Whether an axis stays in the task whole although its size is not known here."""
        return not (label in self.grid or label in self.spans or label in self.static)

    def extent(self, label: str) -> int:
        """The static number of positions along an axis, a guess for open ones: to choose by."""
        if label in self.grid:
            return 1
        return self.spans[label].tile if label in self.spans else self.static.get(label, OPEN)

    def room(self, label: str) -> Index:
        """The number of positions that scratch memory must hold along an axis."""
        return self.sizes[label] if self.is_open(label) else self.extent(label)

    def count(self, label: str) -> Index:
        """How many positions along an axis exist in this task."""
        if label in self.grid:
            return 1
        return self.spans[label].count if label in self.spans else self.room(label)

    def in_blocks(self, label: str, size: int) -> bool:
        """Whether blocks of so many positions leave no rest along an axis."""
        return label in self.spans and self.spans[label].block % size == 0

    def vectors(self, label: str | None) -> Index:
        """The number of vectors along a label; 1 for scalars."""
        if label is None:
            return 1
        if self.is_open(label):
            return arith.ceildivui(self.sizes[label], self.code.index(self.code.lanes))
        return max(1, -(-self.extent(label) // self.code.lanes))

    def whole_room(self, label: str) -> Index:
        """The room, rounded up to whole vectors."""
        return self.code.mul(self.vectors(label), self.code.lanes)

    def split(self, label: str) -> tuple[Index, Index]:
        """How many whole vectors of an axis are worked on, and how many positions behind them."""
        code, lanes = self.code, self.code.lanes
        if label in self.padded:
            return self.vectors(label), 0
        count = self.count(label)
        if isinstance(count, int):
            return count // lanes, count % lanes
        whole = arith.divui(count, code.index(lanes))
        return whole, code.sub(count, code.mul(whole, lanes))

    def blocks_end(self, label: str, block: int) -> Index:
        """Where the last block of so many vectors ends that holds a position of an axis."""
        size = block * self.code.lanes
        return self.code.mul(self.code.ceil_div(self.count(label), size), size)

    @contextmanager
    def whole_vectors(self, label: str) -> Iterator[None]:
        """Code that is emitted inside is only run on vectors of the axis that exist whole."""
        entered = label not in self.padded and label not in self._whole
        if entered:
            self._whole.add(label)
        try:
            yield
        finally:
            if entered:
                self._whole.remove(label)

    def tail_mask(self, label: str, offset: Index) -> ir.Value | None:
        """Which lanes of the vector at `offset` exist; None when all do."""
        if label in self._whole:
            return None
        size = self.count(label)
        if isinstance(size, int):
            if size and size % self.code.lanes == 0:
                return None
            if isinstance(offset, int) and offset + self.code.lanes <= size:
                return None
        return self._mask(self.code.sub(size, offset))

    def _mask(self, remaining: Index) -> ir.Value:
        limit = self.code.broadcast(self.code.to_i32(remaining))
        return arith.cmpi(arith.CmpIPredicate.slt, self.code.iota(), limit)
