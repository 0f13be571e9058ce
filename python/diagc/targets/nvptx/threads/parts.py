"""Which results of a kernel one launch makes: results with different open axes are kept apart.

An axis of open size that no op reduces has to be cut into blocks. Where only some results have it,
they get a launch of their own; each launch computes what its results need and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.kernel_axes import analyze_kernel

__all__ = ["Part", "link_streams", "split_results", "yielded"]


@dataclass(frozen=True)
class Part:
    """One launch.

    Args:
        results: numbers of the results that it makes.
        common: axes that all of these have and no op of the launch reduces.
        needed: the values that they are made of, under their canonical names.
    """

    results: tuple[int, ...]
    common: tuple[str, ...]
    needed: frozenset[ir.Value]


def yielded(block: ir.Block) -> list[ir.Value]:
    """What a region gives, in order."""
    ops = [op.operation for op in block.operations]
    return [op.operands[0] for op in ops if op.name == "diag.yield"]


def link_streams(ops: Sequence[ir.Operation]) -> dict[ir.Value, ir.Value]:
    """A stream's results are what its tail yields; the tail's arguments are the states."""
    same: dict[ir.Value, ir.Value] = {}
    for op in ops:
        if op.name == "diag.stream":
            body, tail = op.regions[1].blocks[0], op.regions[3].blocks[0]
            same.update(zip(tail.arguments, body.arguments, strict=True))
            same.update(zip(op.results, yielded(tail), strict=True))
            for block in (body, tail):
                same |= link_streams([inner.operation for inner in block.operations])
    return same


def split_results(kernel: ir.Operation) -> list[Part]:
    """The launches of a kernel, in the order of their first results."""
    axes = analyze_kernel(kernel)
    ops = [op.operation for op in diag.function_body(kernel).operations]
    returned = list(ops[-1].operands)
    settled = {*axes.common, *axes.reduced, *axes.streamed}
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, value in enumerate(returned):
        dims = diag.dims(value).items()
        extra = [x for x, size in dims if size == diag.DYNAMIC and x not in settled]
        groups.setdefault(tuple(sorted(extra)), []).append(number)
    same = link_streams(ops)
    return [
        Part(
            tuple(numbers),
            (*axes.common, *extra),
            _needed([returned[n] for n in numbers], ops, same),
        )
        for extra, numbers in groups.items()
    ]


def _needed(
    values: Iterable[ir.Value], ops: Sequence[ir.Operation], same: Mapping[ir.Value, ir.Value]
) -> frozenset[ir.Value]:
    """All that values are made of; of streams only the states that are read."""
    sources = _state_sources(ops)
    waiting, found = list(values), set[ir.Value]()
    while waiting:
        value = waiting.pop()
        while value in same:
            value = same[value]
        if value in found:
            continue
        found.add(value)
        if value in sources:
            waiting += sources[value]
        elif not isinstance(value.owner, ir.Block):
            op = value.owner.operation
            waiting += op.operands
            inside = [e for r in op.regions for e in diag.walk_ops(r) if e.name == "diag.element"]
            waiting += [element.operands[0] for element in inside]
    return frozenset(found)


def _state_sources(ops: Sequence[ir.Operation]) -> dict[ir.Value, list[ir.Value]]:
    """What the states of streams are made of, and whether the stream is wanted."""
    found: dict[ir.Value, list[ir.Value]] = {}
    for op in ops:
        if op.name == "diag.stream":
            init, body = op.regions[0].blocks[0], op.regions[1].blocks[0]
            pairs = zip(body.arguments, yielded(init), yielded(body), strict=True)
            found |= {state: [first, new, *op.operands] for state, first, new in pairs}
            found |= _state_sources([inner.operation for inner in body.operations])
            for combine in op.regions[2].blocks:
                states = list(body.arguments)
                for state, joined in zip(states, yielded(combine), strict=True):
                    found[state].append(joined)
                found |= {a: [s] for a, s in zip(combine.arguments, states * 2, strict=True)}
    return found
