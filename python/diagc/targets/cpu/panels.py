"""Memory of a task for products in tiles: panels of an operand, sums that grow piece by piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diagc.mlir import arith, ir
from diagc.targets.cpu.code import Index, is_vector
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.places import Place, Positions, Scratch, stored_type

__all__ = ["Clamped", "Panels", "RunningSum", "Window"]


@dataclass(frozen=True)
class Panels(Scratch):
    """Two axes as panels of `width` positions of the second one, each dense over the first.

    A register block of `width` columns reads one panel, from its start to its end.
    """

    width: int = 0
    depth: int = 0

    @classmethod
    def of(cls, frame: Frame, labels: Sequence[str], element: ir.Type, width: int) -> "Panels":
        """Room for tiles of two axes; the second one in whole panels."""
        deep, wide = (frame.extent(label) for label in labels)
        rounded = -(-wide // width) * width
        buffer = frame.code.memory.allocate([deep * rounded], stored_type(element))
        return cls(buffer, tuple(labels), element, frozenset(labels), width, deep)

    def holds_padding(self, frame: Frame, label: str) -> bool:
        """Whether there is room for whole vectors along an axis."""
        return label == self.labels[1] or self.depth % frame.code.lanes == 0

    def _at(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> list[Index]:
        code = frame.code
        deep, wide = (offset if x == along else at[x] for x in self.labels)
        start = code.floor_to(wide, self.width)
        inside = code.add(code.mul(deep, self.width), code.sub(wide, start))
        return [code.add(code.mul(start, self.depth), inside)]


@dataclass(frozen=True)
class Clamped(Place):
    """A place whose last position along an axis is read in place of those behind it.

    Args:
        place: what is read.
        label: the axis.
        count: its positions.
    """

    place: Place
    label: str
    count: Index

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the place."""
        return self.place.labels

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """An element, or a vector along another axis."""
        position = frame.code.min(at[self.label], frame.code.sub(self.count, 1))
        return self.place.read(frame, {**at, self.label: position}, along, offset)


@dataclass(frozen=True)
class Window(Place):
    """A part of a place: its positions are counted from `start`."""

    place: Place
    start: Mapping[str, Index]

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the place."""
        return self.place.labels

    @property
    def unit(self) -> str | None:  # type: ignore[override]
        """That of the place."""
        return self.place.unit

    def read(self, frame: Frame, at: Positions, along: str | None, offset: Index) -> ir.Value:
        """An element, or a vector along the contiguous axis."""
        at, offset = _moved(frame, self.start, at, along, offset)
        return self.place.read(frame, at, along, offset)


@dataclass(frozen=True)
class RunningSum:
    """A place that sums are added to; what it held before the first piece is not read as a number.

    Args:
        place: where the sum lives.
        start: where in it positions are counted from.
        first: whether this is the first piece, an i1.
    """

    place: Scratch
    start: Mapping[str, Index]
    first: ir.Value

    def write(
        self, frame: Frame, value: ir.Value, at: Positions, along: str | None, offset: Index
    ) -> None:
        """Add to what is there."""
        code = frame.code
        at, offset = _moved(frame, self.start, at, along, offset)
        old = self.place.read(frame, at, along, offset)
        zero = code.like(value, 0)
        first = code.broadcast(self.first) if is_vector(value) else self.first
        total = arith.addf(code.select(first, zero, old), value)
        self.place.write(frame, total, at, along, offset)


def _moved(
    frame: Frame, start: Mapping[str, Index], at: Positions, along: str | None, offset: Index
) -> tuple[Positions, Index]:
    """A position that is counted from `start`, counted from the beginning."""
    moved = {label: frame.code.add(at.get(label, 0), x) for label, x in start.items()}
    return {**at, **moved}, frame.code.add(offset, start.get(along, 0)) if along else offset
