"""The meaning of a stream: init, body for each chunk in order, tail; or chunks and combine."""

from collections.abc import Sequence

import numpy as np

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp.array_rules import align
from diagc.targets.interp.frame import DEFAULT_CHUNK, Frame
from diagc.targets.interp.rounding import Array
from diagc.targets.interp.rules import evaluate_block, rule

__all__: list[str] = []

_INIT, _BODY, _COMBINE, _TAIL = range(4)

State = list[Array]


@rule("diag.chunk")
def _chunk(op: ir.Operation, frame: Frame) -> list[Array]:
    (source,) = op.operands
    axes = diag.labels(source)
    stream = op.parent.operation
    while stream.name != "diag.stream":
        stream = stream.parent.operation
    axis = stream.attributes["axis"].value
    taken = tuple(frame.chunks[axis] if label == axis else slice(None) for label in axes)
    return [align(frame[source][taken], axes, diag.labels(op.results[0]))]


@rule("diag.stream")
def _stream(op: ir.Operation, frame: Frame) -> list[Array]:
    axis = op.attributes["axis"].value
    bounds = _bounds(frame.size(axis), _chunk_size(op, frame))
    emitted = op.opview.emitted
    if frame.options.tree and len(op.regions[_COMBINE].blocks) and not emitted:
        state = _tree(op, frame, axis, bounds)
        return _where(op, frame, _region(op, _TAIL, frame, state))
    state = _region(op, _INIT, frame, [])
    count, chunks = len(state), []
    for start, stop in bounds:
        with frame.chunk(axis, start, stop):
            given = _region(op, _BODY, frame, state)
        state = given[:count]
        chunks.append(given[count:])
    whole = [
        np.concatenate(parts, axis=diag.labels(result).index(axis))
        for parts, result in zip(zip(*chunks, strict=True), _last(op, emitted), strict=True)
    ]
    return _where(op, frame, [*_region(op, _TAIL, frame, state), *whole])


def _last(op: ir.Operation, count: int) -> list[ir.Value]:
    return list(op.results)[len(op.results) - count :]


def _chunk_size(op: ir.Operation, frame: Frame) -> int:
    if frame.options.chunk is not None:
        return frame.options.chunk
    return op.attributes["chunk"].value if "chunk" in op.attributes else DEFAULT_CHUNK


def _bounds(size: int, chunk: int) -> list[tuple[int, int]]:
    return [(start, min(start + chunk, size)) for start in range(0, size, chunk)]


def _tree(op: ir.Operation, frame: Frame, axis: str, bounds: Sequence[tuple[int, int]]) -> State:
    """Fold every chunk from the initial state, then combine neighbours until one state is left."""
    states: list[State] = []
    for start, stop in bounds:
        initial = _region(op, _INIT, frame, [])
        with frame.chunk(axis, start, stop):
            states.append(_region(op, _BODY, frame, initial))
    states = states or [_region(op, _INIT, frame, [])]
    while len(states) > 1:
        pairs = [states[i : i + 2] for i in range(0, len(states), 2)]
        states = [
            _region(op, _COMBINE, frame, [*pair[0], *pair[1]]) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return states[0]


def _region(op: ir.Operation, number: int, frame: Frame, arguments: State) -> State:
    (block,) = op.regions[number].blocks
    for argument, array in zip(block.arguments, arguments, strict=True):
        frame.define(argument, array)
    return evaluate_block(block, frame)


def _where(op: ir.Operation, frame: Frame, results: list[Array]) -> list[Array]:
    """Results are undefined where the condition is false: poisoned, so that nobody uses them."""
    if not len(op.operands):
        return results
    condition = op.operands[0]
    poisoned = []
    for result, array in zip(op.results, results, strict=True):
        wanted = diag.labels(result)
        if not set(diag.labels(condition)) <= set(wanted) or array.dtype != np.float64:
            poisoned.append(array)
            continue
        keep = align(frame[condition], diag.labels(condition), wanted)
        poisoned.append(np.where(keep, array, np.nan))
    return poisoned
