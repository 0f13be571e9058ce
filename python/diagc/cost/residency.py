"""M of theory: the most that a kernel holds on chip at once, by the lifetimes of its arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from diagc.cost.ops import element_bytes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["resident_bytes"]

_VIEWS = ("diag.relabel", "diag.reindex")
_NOT_STORED = ("diag.index", "diag.constant", *_VIEWS)


@dataclass
class _Lives:
    """First and last step at which each array is held; a step is one op."""

    spans: dict[ir.Value, tuple[int, int]] = field(default_factory=dict)
    steps: int = 0

    def hold(self, value: ir.Value, first: int, last: int) -> None:
        """Hold an array from one step to another, and as long as it was held anyway."""
        old = self.spans.get(value, (first, last))
        self.spans[value] = (min(old[0], first), max(old[1], last))


def resident_bytes(
    kernel: ir.Operation, groups: Mapping[str, int], chunks: Mapping[str, int]
) -> int | None:
    """Bytes of the arrays that are held at once where that is most (arXiv 2412.03317, M).

    Every array between two ops counts for as long as anything reads it, an input from where it is
    read first; a streamed one counts chunk by chunk. Code that keeps an array in between only
    element by element needs less.

    Args:
        kernel: the kernel function.
        groups: positions in one task, by axis that is shared out to tasks.
        chunks: positions read at a time, by axis that is streamed.

    Returns:
        The bytes, or None when the size of an axis that is held whole is open.
    """
    lives = _Lives()
    _block(diag.function_body(kernel), lives)
    sizes: dict[ir.Value, int] = {}
    for value in lives.spans:
        size = _bytes(value, groups, chunks)
        if size is None:
            return None
        sizes[value] = size
    totals = [0] * (lives.steps + 1)
    for value, (first, last) in lives.spans.items():
        for step in range(first, last + 1):
            totals[step] += sizes[value]
    return max(totals)


def _block(block: ir.Block, lives: _Lives) -> None:
    for view in block.operations:
        op = view.operation
        if op.name == "diag.stream":
            _stream(op, lives)
            continue
        lives.steps += 1
        for value in _reads(op):
            lives.hold(value, lives.steps, lives.steps)
        for result in op.results if op.name not in _NOT_STORED else ():
            if diag.is_wire(result.type):
                lives.hold(result, lives.steps, lives.steps)


def _stream(op: ir.Operation, lives: _Lives) -> None:
    """States are held from init to tail, what the body reads from outside while it runs."""
    init, body, _, tail = op.regions
    start = lives.steps + 1
    _block(init.blocks[0], lives)
    first = lives.steps + 1
    _block(body.blocks[0], lives)
    end = lives.steps
    for value in diag.outer_operands(op):
        root = _root(value)
        if root in lives.spans:  # not if only chunks of it are read
            lives.hold(root, min(first, lives.spans[root][0]), end)
    for state in body.blocks[0].arguments:
        lives.hold(state, start, end)
    _block(tail.blocks[0], lives)
    for result in op.results:
        lives.hold(result, lives.steps, lives.steps)


def _reads(op: ir.Operation) -> Iterator[ir.Value]:
    """Arrays that an op reads; a chunk reads what stays in main memory."""
    if op.name == "diag.chunk":
        return
    inner = (child for region in op.regions for child in diag.walk_ops(region))
    for reader in (op, *inner):
        for value in reader.operands:
            root = _root(value)
            if diag.is_wire(root.type) and not _is_free(root):
                yield root


def _root(value: ir.Value) -> ir.Value:
    """The array that a view is a view of."""
    owner = value.owner
    while not isinstance(owner, ir.Block) and owner.operation.name in _VIEWS:
        value = owner.operation.operands[0]
        owner = value.owner
    return value


def _is_free(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name in _NOT_STORED


def _bytes(value: ir.Value, groups: Mapping[str, int], chunks: Mapping[str, int]) -> int | None:
    streamed = _streamed_axis(value)
    total = element_bytes(diag.element_type(value))
    for label, size in diag.dims(value).items():
        held = groups.get(label, chunks.get(label, size) if label in streamed else size)
        if held == diag.DYNAMIC:
            return None
        total *= held
    return total


def _streamed_axis(value: ir.Value) -> set[str]:
    """Axes of which only a chunk is there: those of the streams around."""
    owner = value.owner
    op = owner.owner if isinstance(owner, ir.Block) else owner.operation.parent
    found: set[str] = set()
    while op is not None:
        if op.operation.name == "diag.stream":
            found.add(str(ir.StringAttr(op.operation.attributes["axis"]).value))
        op = op.operation.parent
    return found
