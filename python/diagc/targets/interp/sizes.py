"""Sizes of axes before a function is evaluated: those of its inputs and what follows from them.

`diag.index` may name an axis before the op that makes it, so sizes are found first, to a fixpoint.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

from diagc.dialects import diag
from diagc.errors import UserError
from diagc.mlir import ir
from diagc.targets.interp.rounding import Array

__all__ = ["bind_inputs", "infer_sizes", "largest_extent"]

Sizes = dict[str, int]

_UNBOUNDED = 2**40


def bind_inputs(name: str, arguments: Sequence[ir.Value], inputs: Sequence[Array]) -> Sizes:
    """Size of every axis of the arguments of function `name`.

    Raises:
        UserError: wrong number of inputs, wrong rank, or a size that contradicts another; names
            the argument, the label, what was expected and what was found.
    """
    if len(arguments) != len(inputs):
        raise UserError(
            f"function '{name}' got the wrong number of inputs",
            expected=len(arguments),
            found=len(inputs),
        )
    sizes: Sizes = {}
    for position, (argument, array) in enumerate(zip(arguments, inputs, strict=True)):
        _bind_input(f"input {position} of function '{name}'", argument, array, sizes)
    return sizes


def _bind_input(what: str, argument: ir.Value, array: Array, sizes: Sizes) -> None:
    if not diag.is_wire(argument.type):
        return
    expected = diag.dims(argument.type)
    if array.ndim != len(expected):
        raise UserError(
            f"{what} has the wrong rank",
            expected=f"axes {list(expected)} ({argument.type})",
            found=f"shape {array.shape}",
        )
    for (label, static), found in zip(expected.items(), array.shape, strict=True):
        wanted = sizes.setdefault(label, found if static == diag.DYNAMIC else static)
        if static not in (diag.DYNAMIC, wanted):
            wanted = static
        if found != wanted:
            raise UserError(
                f'axis "{label}" of {what} has the wrong size', expected=wanted, found=found
            )


def infer_sizes(block: ir.Block, sizes: Sizes) -> None:
    """Add to `sizes` what static types and the ops of the function say about other axes."""
    ops = [op for view in block.operations for op in _below(view.operation)]
    for op in ops:
        for value in op.results:
            if diag.is_wire(value.type):
                _add_static(diag.dims(value.type), sizes)
    known = -1
    while known != len(sizes):
        known = len(sizes)
        for op in ops:
            if op.name in _INFERENCE:
                _INFERENCE[op.name](op, sizes)


def _below(op: ir.Operation) -> list[ir.Operation]:
    return [op, *(inner for region in op.regions for inner in diag.walk_ops(region))]


def _add_static(dims: Mapping[str, int], sizes: Sizes) -> None:
    for label, size in dims.items():
        if size != diag.DYNAMIC:
            sizes.setdefault(label, size)


def _relabel(op: ir.Operation, sizes: Sizes) -> None:
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    for source, target in zip(old, new, strict=True):
        if source in sizes:
            sizes.setdefault(target, sizes[source])


def _concat(op: ir.Operation, sizes: Sizes) -> None:
    parts = diag.strings(op.attributes["axes"])
    if all(part in sizes for part in parts):
        sizes.setdefault(op.attributes["to"].value, sum(sizes[part] for part in parts))


def _pad(op: ir.Operation, sizes: Sizes) -> None:
    axis = op.attributes["axis"].value
    if axis in sizes:
        grown = sizes[axis] + op.attributes["low"].value + op.attributes["high"].value
        sizes.setdefault(op.attributes["to"].value, grown)


def _reindex(op: ir.Operation, sizes: Sizes) -> None:
    """One result axis of unknown size is taken as long as the source allows."""
    source, target = diag.labels(op.operands[0]), diag.labels(op.results[0])
    unknown = [label for label in target if label not in sizes]
    if len(unknown) != 1 or any(label not in sizes for label in source):
        return
    extents = [sizes.get(label, 0) for label in target]
    found = largest_extent(
        op.attributes["map"].value,
        [sizes[label] for label in source],
        extents,
        target.index(unknown[0]),
    )
    if found < _UNBOUNDED:
        sizes[unknown[0]] = found


def largest_extent(
    map_: ir.AffineMap, source: Sequence[int], extents: Sequence[int], unknown: int
) -> int:
    """The largest extent of dimension `unknown` for which `map_` stays inside sizes `source`.

    Found by doubling and halving, for maps that do not decrease along it (slice, stride, split,
    merge); 2**40 or more when nothing bounds it.
    """
    if any(extent == 0 for i, extent in enumerate(extents) if i != unknown):
        return 0

    def fits(extent: int) -> bool:
        last = [max(0, (extent if i == unknown else size) - 1) for i, size in enumerate(extents)]
        corners = itertools.product(*({0, position} for position in last))
        return all(
            0 <= diag.evaluate_affine(expr, corner) < size
            for corner in corners
            for expr, size in zip(map_.results, source, strict=True)
        )

    high = 1
    while high < _UNBOUNDED and fits(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


_INFERENCE: dict[str, Callable[[ir.Operation, Sizes], None]] = {
    "diag.concat": _concat,
    "diag.pad": _pad,
    "diag.reindex": _reindex,
    "diag.relabel": _relabel,
}
