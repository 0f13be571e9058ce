"""Loops over the positions of axes and over their vectors."""

from collections.abc import Callable, Sequence

from diagc.mlir import ir
from diagc.targets.cpu.code import Index
from diagc.targets.cpu.frame import Frame

__all__ = ["each_position", "each_vector", "each_vector_block"]


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

    code = frame.code
    whole, rest = frame.split(label)
    end = code.add(code.mul(whole, code.lanes), rest)
    code.loop(0, end, step or code.lanes, [], trip)


def each_vector_block(
    frame: Frame,
    label: str | None,
    block: int,
    carried: Sequence[ir.Value],
    body: Callable[[Index, int, list[ir.Value]], Sequence[ir.Value]],
) -> list[ir.Value]:
    """Run `body` at every vector of an axis, `block` at a time; those that exist whole come first.

    `body` gets the offset, the number of vectors and what is carried: `block` values of everything
    that accumulates, side by side, of which single vectors take and give the first. Of padded tiles
    only whole blocks run.
    """
    code, lanes = frame.code, frame.code.lanes
    if label is None:
        return list(body(0, 1, list(carried)))
    whole, rest = frame.split(label)
    if isinstance(whole, int) and isinstance(rest, int) and whole + bool(rest) == block:
        return list(body(0, block, list(carried)))
    if label in frame.padded and isinstance(whole, int) and whole % block == 0:
        end = frame.blocks_end(label, block)
        return code.loop(0, end, block * lanes, carried, lambda i, c: body(i, block, c))
    main, end = code.mul(code.floor_to(whole, block), lanes), code.mul(whole, lanes)

    def single(i: Index, values: list[ir.Value]) -> Sequence[ir.Value]:
        return body(i, 1, values)

    with frame.whole_vectors(label):
        values = code.loop(0, main, block * lanes, carried, lambda i, c: body(i, block, c))
        values[::block] = code.loop(main, end, lanes, values[::block], single)
    values[::block] = code.loop(end, code.add(end, rest), lanes, values[::block], single)
    return values
