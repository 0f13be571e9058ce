"""Copies between layouts: operands turned so that lanes are contiguous, results turned back."""

from diagc.mlir import ir
from diagc.targets.cpu.code import Index
from diagc.targets.cpu.frame import Frame
from diagc.targets.cpu.loops import each_position, each_vector, each_vector_block
from diagc.targets.cpu.places import Memory, Place, Scratch, narrow, stored_type

__all__ = ["copy", "pack"]

Positions = dict[str, Index]


def pack(frame: Frame, source: Place, unit: str) -> Scratch:
    """A copy of `source` in the task's memory, contiguous along `unit`, in compute types."""
    labels = [label for label in source.labels if label not in frame.grid and label != unit]
    target = Scratch.allocate(frame, [*labels, unit], source.element, whole=source.unit)
    copy(frame, source, target)
    return target


def copy(frame: Frame, source: Place, target: Scratch | Memory) -> None:
    """Write every position of `target` that exists; `source` is broadcast along axes it lacks."""
    along = target.unit if target.unit not in frame.grid else None
    old = source.unit if source.unit not in frame.grid else None
    if along is not None and old is not None and along in source.labels and old != along:
        _turn(frame, source, target, old, along)
        return
    outer = [label for label in target.labels if label != along and label not in frame.grid]

    def body(at: Positions) -> None:
        def move(offset: Index, _count: int, _carried: list[ir.Value]) -> list[ir.Value]:
            _move(frame, source, target, at, along, offset)
            return []

        each_vector_block(frame, along, 1, [], move)

    each_position(frame, outer, body)


def _move(
    frame: Frame,
    source: Place,
    target: Scratch | Memory,
    at: Positions,
    along: str | None,
    offset: Index,
) -> None:
    value = source.read(frame, at, along if along in source.labels else None, offset)
    if along is not None:
        value = frame.code.broadcast(value)
    target.write(frame, value, at, along, offset)


def _turn(frame: Frame, source: Place, target: Scratch | Memory, old: str, new: str) -> None:
    """Squares of lanes x lanes: vectors along `old` are read, vectors along `new` written."""
    outer = [
        label for label in target.labels if label not in (old, new) and label not in frame.grid
    ]

    def square(at: Positions) -> None:
        each_vector(
            frame,
            new,
            lambda b: each_vector(
                frame, old, lambda a: _turn_square(frame, source, target, at, (old, a), (new, b))
            ),
        )

    each_position(frame, outer, square)


def _turn_square(
    frame: Frame,
    source: Place,
    target: Scratch | Memory,
    at: Positions,
    old: tuple[str, Index],
    new: tuple[str, Index],
) -> None:
    """Rows beyond the end repeat the last one; columns beyond it are not stored."""
    code = frame.code
    last = code.max(code.sub(frame.count(new[0]), 1), 0)
    rows = []
    for i in range(code.lanes):
        position = code.min(code.add(new[1], i), last)
        row = source.read(frame, {**at, new[0]: position}, old[0], old[1])
        rows.append(narrow(row, stored_type(source.element)))
        if isinstance(source, Memory):
            ahead = code.min(code.add(position, code.lanes), last)
            source.ask(frame, {**at, new[0]: ahead}, old[1])
    for i, column in enumerate(code.transpose(rows)):
        position = code.add(old[1], i)
        _write_column(frame, target, column, {**at, old[0]: position}, old[0], new)


def _write_column(
    frame: Frame,
    target: Scratch | Memory,
    column: ir.Value,
    at: Positions,
    old: str,
    new: tuple[str, Index],
) -> None:
    if isinstance(target, Scratch) and target.holds_padding(frame, old):
        target.write(frame, column, at, *new)
        return
    exists = frame.code.less(at[old], frame.count(old))
    frame.code.when(exists, lambda: target.write(frame, column, at, *new))
