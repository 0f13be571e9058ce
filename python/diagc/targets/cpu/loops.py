"""Loops over the positions of axes and over their vectors."""

from collections.abc import Callable, Sequence

from diagc.mlir import ir
from diagc.targets.cpu.code import Index
from diagc.targets.cpu.frame import Frame

__all__ = ["each_position", "each_vector"]


def each_position(
    frame: Frame,
    labels: Sequence[str],
    body: Callable[[dict[str, Index]], None],
    at: dict[str, Index] | None = None,
) -> None:
    """Run `body` at every position of the axes that exists, the last label fastest."""
    at = at or {}
    if not labels:
        body(at)
        return

    def step(i: Index, _carried: list[ir.Value]) -> list[ir.Value]:
        each_position(frame, labels[1:], body, {**at, labels[0]: i})
        return []

    frame.code.loop(0, frame.count(labels[0]), 1, [], step)


def each_vector(
    frame: Frame, label: str | None, body: Callable[[Index], None], step: int | None = None
) -> None:
    """Run `body` at the offset of every vector of an axis; once, at 0, for scalars."""
    if label is None:
        body(0)
        return

    def trip(i: Index, _carried: list[ir.Value]) -> list[ir.Value]:
        body(i)
        return []

    frame.code.loop(0, frame.padded(label), step or frame.code.lanes, [], trip)
