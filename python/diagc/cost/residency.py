"""M of theory: the most that a kernel holds on chip at once, by the lifetimes of its arrays."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from diagc.cost.ops import element_bytes
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Lifetimes", "is_summed_up", "lifetimes", "resident_bytes", "root_of"]

_VIEWS = ("diag.relabel", "diag.reindex")
_NOT_STORED = ("diag.index", "diag.constant", *_VIEWS)


@dataclass
class _Lives:
    """First and last step at which each array is held; a step is one op."""

    spans: dict[ir.Value, tuple[int, int]] = field(default_factory=dict)
    steps: int = 0
    overwritten: list[tuple[int, ir.Value]] = field(default_factory=list)

    def hold(self, value: ir.Value, first: int, last: int) -> None:
        """Hold an array from one step to another, and as long as it was held anyway."""
        old = self.spans.get(value, (first, last))
        self.spans[value] = (min(old[0], first), max(old[1], last))

    def overwrite(self) -> None:
        """Let the results of maps take the places of arrays that nothing reads any more."""
        for step, value in self.overwritten:
            first, last = self.spans.get(value, (step, step))
            if last == step and first < step:
                self.spans[value] = (first, step - 1)


def resident_bytes(
    kernel: ir.Operation,
    groups: Mapping[str, int],
    chunks: Mapping[str, int],
    open_sizes: Mapping[str, int] | None = None,
    *,
    arguments: bool = True,
) -> int | None:
    """Bytes of the arrays that are held at once where that is most (arXiv 2412.03317, M).

    Every array between two ops counts for as long as anything reads it, an input from where it is
    read first; a streamed one counts chunk by chunk. A map's result takes the place of an array
    that ends there, and a product that is only added to a state is summed up in the state. Code
    that keeps an array in between only element by element needs less.

    Args:
        kernel: the kernel function.
        groups: positions in one task, by axis that is shared out to tasks.
        chunks: positions read at a time, by axis that is streamed.
        open_sizes: of axes whose types leave them open.
        arguments: whether the kernel's arguments count too.

    Returns:
        The bytes, or None when the size of an axis that is held whole is open.
    """
    return lifetimes(kernel).held(groups, chunks, open_sizes or {}, arguments=arguments)


@dataclass(frozen=True)
class Life:
    """An array on chip: its axes, those of which only a chunk is there, from which op to which."""

    dims: Mapping[str, int]
    element: int
    streamed: frozenset[str]
    first: int
    last: int
    is_argument: bool

    def size(
        self, groups: Mapping[str, int], chunks: Mapping[str, int], open_sizes: Mapping[str, int]
    ) -> int | None:
        """Bytes under a decoration; None when the size of an axis that is held whole is open."""
        total = self.element
        for label, size in self.dims.items():
            whole = open_sizes.get(label, size) if size == diag.DYNAMIC else size
            held = groups.get(label, chunks.get(label, whole) if label in self.streamed else whole)
            if held == diag.DYNAMIC:
                return None
            total *= held
        return total


@dataclass(frozen=True)
class Lifetimes:
    """All arrays of a kernel with the ops between which they live."""

    arrays: tuple[Life, ...]
    steps: int

    def held(
        self,
        groups: Mapping[str, int],
        chunks: Mapping[str, int],
        open_sizes: Mapping[str, int],
        *,
        arguments: bool = True,
    ) -> int | None:
        """M, as `resident_bytes` says it."""
        changes = [0] * (self.steps + 2)
        for life in self.arrays:
            if life.is_argument and not arguments:
                continue
            size = life.size(groups, chunks, open_sizes)
            if size is None:
                return None
            changes[life.first] += size
            changes[life.last + 1] -= size
        return max(accumulate(changes))


def lifetimes(kernel: ir.Operation) -> Lifetimes:
    """From where to where each array of a kernel is held."""
    lives = _Lives()
    body = diag.function_body(kernel)
    _block(body, lives)
    lives.overwrite()
    own = set(body.arguments)
    arrays = tuple(
        Life(
            diag.dims(value),
            element_bytes(diag.element_type(value)),
            frozenset(_streamed_axis(value)),
            *span,
            value in own,
        )
        for value, span in lives.spans.items()
    )
    return Lifetimes(arrays, lives.steps)


def _block(block: ir.Block, lives: _Lives) -> None:
    for view in block.operations:
        op = view.operation
        if op.name == "diag.stream":
            _stream(op, lives)
            continue
        lives.steps += 1
        read = [value for value in _reads(op) if not is_summed_up(value)]
        for value in read:
            lives.hold(value, lives.steps, lives.steps)
        for result in op.results if op.name not in _NOT_STORED else ():
            if diag.is_wire(result.type) and not is_summed_up(result):
                lives.hold(result, lives.steps, lives.steps)
        if op.name == "diag.map":
            alike = (value for value in read if value.type == op.results[0].type)
            lives.overwritten += [(lives.steps, value) for value in alike if not _is_input(value)][
                :1
            ]


def _stream(op: ir.Operation, lives: _Lives) -> None:
    """States are held from init to tail, what the body reads from outside while it runs."""
    init, body, _, tail = op.regions
    _block(init.blocks[0], lives)
    first = lives.steps + 1
    _block(body.blocks[0], lives)
    end = lives.steps
    for value in diag.outer_operands(op):
        root = root_of(value)
        if root in lives.spans:  # not if only chunks of it are read
            lives.hold(root, min(first, lives.spans[root][0]), end)
    for state in body.blocks[0].arguments:
        lives.hold(state, first, first)
    _block(tail.blocks[0], lives)
    lives.steps += 1  # what the tail yields becomes the results
    for result in op.results:
        lives.hold(result, lives.steps, lives.steps)


def _reads(op: ir.Operation) -> Iterator[ir.Value]:
    """Arrays that an op reads; a chunk reads what stays in main memory."""
    if op.name == "diag.chunk":
        return
    inner = (child for region in op.regions for child in diag.walk_ops(region))
    for reader in (op, *inner):
        for value in reader.operands:
            root = root_of(value)
            if diag.is_wire(root.type) and not _is_free(root):
                yield root


def root_of(value: ir.Value) -> ir.Value:
    """The array that a view is a view of."""
    owner = value.owner
    while not isinstance(owner, ir.Block) and owner.operation.name in _VIEWS:
        value = owner.operation.operands[0]
        owner = value.owner
    return value


def _is_input(value: ir.Value) -> bool:
    """Whether a value is an argument of the kernel, which stays as it is."""
    owner = value.owner
    return isinstance(owner, ir.Block) and owner.owner.operation.name == "func.func"


def is_summed_up(value: ir.Value) -> bool:
    """Whether a contraction's result is only added to something: then it is never there alone."""
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.operation.name != "diag.contract":
        return False
    uses = list(value.uses)
    if len(uses) != 1 or uses[0].owner.name != "diag.element":
        return False
    element = uses[0].owner.operation.results[0]
    added = list(element.uses)
    return len(added) == 1 and added[0].owner.name == "arith.addf"


def _is_free(value: ir.Value) -> bool:
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.name in _NOT_STORED


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
