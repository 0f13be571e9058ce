"""Analysis: the axes of ops and kernels. Woven, reduced, streamed, local; changes nothing.

An axis is *woven* by an op when the op is independent at every position of it, so that it may be
split into tasks or vector lanes. The axes that all ops of a kernel weave are the kernel's `common`
axes; every other axis stays inside a task and is *local*.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from diagc.cost import elements, op_flops
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import array_ops, used_values
from diagc.passes.kernels.tiled_products import TILED

__all__ = [
    "LEAVES",
    "VIEWS",
    "ContractionAxes",
    "KernelAxes",
    "OpAxes",
    "analyze_kernel",
    "analyze_ops",
    "contraction_axes",
    "is_index_map",
    "is_leaf",
    "op_axes",
    "row_operand",
]

LEAVES = ("arith.constant", "diag.constant", "diag.index")
"""Ops without operands: each kernel and region makes its own copy."""

VIEWS = ("diag.relabel", "diag.reindex")
"""Ops that only say where elements are found."""

LANE_TILE = 64
"""Positions of one task that share what they all read; bounds how often that is recomputed."""

DEEPEST_MASK = 8
"""Masks are short chains of maps; the limit keeps the question cheap on long chains of others."""

LARGEST_LOCAL = 512
"""A static axis up to this size may stay inside a task."""

LARGEST_STATE = 32 * 1024
"""Elements of a state that one task may keep: 128 KiB in f32, an eighth of a usual second level."""


@dataclass(frozen=True)
class OpAxes:
    """Axes of one op: `woven` in the order of its result, `reduced` with those of nested ops.

    `streamed` are the axes of streams; they are no axes of the task at all.
    """

    name: str
    woven: tuple[str, ...]
    reduced: tuple[str, ...] = ()
    streamed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Give one line, as `diag.reduce weaves b h q, reduces x`."""
        parts = [f"{self.name} weaves {' '.join(self.woven) or 'nothing'}"]
        parts += [f"reduces {' '.join(self.reduced)}"] if self.reduced else []
        parts += [f"streams {' '.join(self.streamed)}"] if self.streamed else []
        return ", ".join(parts)


@dataclass(frozen=True)
class ContractionAxes:
    """Axes of one contraction; an operand is broadcast over the result axes that it lacks."""

    over: tuple[str, ...]
    result: tuple[str, ...]
    lhs_lacks: tuple[str, ...]
    rhs_lacks: tuple[str, ...]

    @property
    def broadcast(self) -> tuple[str, ...]:
        """Result axes that one of the operands lacks."""
        return tuple(label for label in self.result if label in self.lhs_lacks + self.rhs_lacks)


@dataclass(frozen=True)
class KernelAxes:
    """Axes of a kernel.

    `common` axes are woven by every op and stand in every result, in the order of the first result;
    `local` axes are the others that appear in values outside of streams. `sizes` are by label, in
    order of appearance, `diag.DYNAMIC` where open.
    """

    sizes: tuple[tuple[str, int], ...]
    common: tuple[str, ...]
    local: tuple[str, ...]
    streamed: tuple[str, ...]
    reduced: tuple[str, ...]
    results: tuple[tuple[str, ...], ...]
    ops: tuple[OpAxes, ...]
    contractions: tuple[ContractionAxes, ...]

    def size(self, label: str) -> int:
        """The size of an axis, `diag.DYNAMIC` where open.

        Raises:
            KeyError: the kernel has no such axis.
        """
        return dict(self.sizes)[label]

    def __str__(self) -> str:
        """Give a few lines for `explain` and for tests."""
        sizes = " ".join(f"{k}={'?' if v == diag.DYNAMIC else v}" for k, v in self.sizes)
        rows = (("common", self.common), ("local", self.local), ("streamed", self.streamed))
        lines = [f"{name}: {' '.join(axes)}" for name, axes in rows if axes]
        return "\n".join([f"sizes: {sizes}", *lines, *(str(op) for op in self.ops)])


def is_leaf(op: ir.Operation) -> bool:
    """Whether kernels and regions make their own copy of an op: a literal or an index, no table."""
    if op.name != "diag.constant":
        return op.name in LEAVES
    return bool(ir.DenseElementsAttr(op.attributes["value"]).is_splat)


def is_index_map(op: ir.Operation, depth: int = 0) -> bool:
    """Whether a map reads positions only (a mask): it costs no memory traffic, wherever it runs.

    Chains of more than `DEEPEST_MASK` maps count as ordinary maps.
    """
    if op.name != "diag.map" or depth > DEEPEST_MASK:
        return False
    body = op.regions[0].blocks[0].operations
    sources = [e.operation.operands[0] for e in body if e.operation.name == "diag.element"]
    return bool(sources) and all(_is_position(source, depth) for source in sources)


def _is_position(value: ir.Value, depth: int) -> bool:
    owner = value.owner
    if isinstance(owner, ir.Block):
        return False
    op = owner.operation
    if op.name == "diag.chunk":
        return _is_position(op.operands[0], depth)
    return is_leaf(op) or is_index_map(op, depth + 1)


def op_axes(op: ir.Operation) -> OpAxes:
    """The axes of one array-level op."""
    if op.name == "diag.stream":
        return _stream_axes(op)
    if op.name == "diag.contract":
        return OpAxes(op.name, _contract_woven(op), tuple(diag.strings(op.attributes["over"])))
    labels = diag.labels(op.results[0])
    if op.name == "diag.reduce":
        return OpAxes(op.name, labels, tuple(diag.strings(op.attributes["over"])))
    return OpAxes(op.name, labels)


def contraction_axes(op: ir.Operation) -> ContractionAxes:
    """The axes of a `diag.contract`."""
    result = diag.labels(op.results[0])
    lhs, rhs = (set(diag.labels(value)) for value in op.operands)
    return ContractionAxes(
        over=tuple(diag.strings(op.attributes["over"])),
        result=result,
        lhs_lacks=tuple(label for label in result if label not in lhs),
        rhs_lacks=tuple(label for label in result if label not in rhs),
    )


def row_operand(op: ir.Operation) -> int:
    """Which operand of a contraction brings the rows: the one with more free positions.

    The other one is shared by all rows, and its own free axes are features of the result.
    """
    axes = contraction_axes(op)
    sizes = diag.dims(op.results[0])
    lhs, rhs = (
        elements({label: sizes[label] for label in free})
        for free in (axes.rhs_lacks, axes.lhs_lacks)
    )
    return 0 if lhs >= rhs else 1


def _contract_woven(op: ir.Operation) -> tuple[str, ...]:
    """Result axes without the features, where these are few enough to stay inside a task.

    To split features over tasks would read the rows once for every one of them.
    """
    axes = contraction_axes(op)
    features = axes.lhs_lacks if row_operand(op) == 0 else axes.rhs_lacks
    sizes = diag.dims(op.results[0])
    if not _fits({label: sizes[label] for label in features}, LARGEST_LOCAL):
        return axes.result
    return tuple(label for label in axes.result if label not in features)


def _stream_axes(stream: ir.Operation) -> OpAxes:
    axis = ir.StringAttr(stream.attributes["axis"]).value
    emitted = diag.emitted_ops(stream)  # tiles of an axis that they sum are added up
    given = list(stream.results)[: len(stream.results) - len(emitted)]
    woven = _shared(diag.labels(result) for result in given)
    if TILED in stream.attributes:
        return OpAxes("diag.stream", woven, (axis,), (axis,))
    inner = [o for o in _body_ops(stream) if o.name == "diag.contract" and o not in emitted]
    split = {label for op in emitted for label in diag.strings(op.attributes["over"])}
    woven = tuple(x for x in woven if x in split or not _multiplies(x, inner, stream))
    woven = _without_features(woven, stream)
    sums = ("diag.contract", "diag.reduce")
    nested = [op for op in array_ops(stream) if op.name in sums and op not in emitted]
    over = [label for op in nested for label in diag.strings(op.attributes["over"])]
    streams = [op for op in array_ops(stream) if op.name == "diag.stream"]
    streamed = [ir.StringAttr(op.attributes["axis"]).value for op in streams]
    reduced = tuple(dict.fromkeys(label for label in over if label not in streamed))
    # an axis may be summed away by one op of the body and stay in what others make of it
    woven = tuple(label for label in woven if label not in reduced)
    return OpAxes("diag.stream", woven, reduced, tuple(dict.fromkeys([axis, *streamed])))


def _multiplies(label: str, contractions: list[ir.Operation], stream: ir.Operation) -> bool:
    """Whether splitting the stream over `label` would repeat the contractions that lack it.

    Only a small static axis can be kept inside a task instead. Repeating is harmless when, shared
    by a tile of lanes, it stays under a quarter of the work that the axis itself brings.
    """
    size = max(diag.dims(result).get(label, 0) for result in stream.results)
    if size == diag.DYNAMIC or not 0 < size <= LARGEST_LOCAL:
        return False
    flops = {True: 0, False: 0}
    for op in contractions:
        flops[label in diag.labels(op.results[0])] += op_flops(op)
    return flops[False] * size * 4 > flops[True] * LANE_TILE


def _without_features(woven: tuple[str, ...], stream: ir.Operation) -> tuple[str, ...]:
    """The woven axes without those that only chunks bring, where the states still fit a task.

    Such an axis is a feature of what streams by (the two sides of a Gram matrix), while an axis
    that also stands in a wire from outside (the queries of attention) tells instances apart.
    """
    chunked = [set(diag.labels(value)) for value in _chunk_wires(stream)]
    sources = {op.operands[0] for op in _body_ops(stream) if op.name == "diag.chunk"}
    outside = {
        label
        for value in used_values(stream)
        if diag.is_wire(value.type) and value not in sources
        for label in diag.labels(value)
    }
    batch = set.intersection(*chunked) if chunked else set()
    features = set().union(*chunked) - outside - batch
    kept = tuple(label for label in woven if label not in features)
    init = [op.operation for op in stream.regions[0].blocks[0].operations]
    wires = [diag.dims(op.operands[0]) for op in init if op.name == "diag.yield"]
    parts = ({k: v for k, v in wire.items() if k not in kept} for wire in wires)
    fits = all(_fits(part, LARGEST_STATE) for part in parts)
    return kept if fits else woven


def _body_ops(stream: ir.Operation) -> list[ir.Operation]:
    """The array ops of a stream's body, with those of streams in it."""
    ops = [op.operation for op in stream.regions[1].blocks[0].operations]
    return [inner for op in ops for inner in array_ops(op)]


def _chunk_wires(stream: ir.Operation) -> list[ir.Value]:
    """Results of chunks, also under other labels."""
    wires: list[ir.Value] = []
    for op in _body_ops(stream):
        if op.name == "diag.chunk" or (op.name in VIEWS and op.operands[0] in wires):
            wires.append(op.results[0])
    return wires


def _fits(local: dict[str, int], limit: int) -> bool:
    sizes = list(local.values())
    return diag.DYNAMIC not in sizes and prod(sizes) <= limit


def _shared(label_sets: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Labels in all of the sets, in the order of the first."""
    sets = list(label_sets)
    if not sets:
        return ()
    return tuple(label for label in sets[0] if all(label in other for other in sets))


def analyze_ops(ops: Iterable[ir.Operation], results: Iterable[ir.Value]) -> KernelAxes:
    """The axes of the kernel that `ops` would make with these results.

    Leaves, views and maps of positions fit any split, so they do not bound the common axes.
    """
    ops, results = list(ops), list(results)
    found = [op_axes(op) for op in ops if op.name not in LEAVES + VIEWS and not is_index_map(op)]
    outputs = tuple(diag.labels(value) for value in results)
    # one label may be summed by one op and be free in another (heads of size e in Q . K and in V)
    summed = {label for axes in found for label in (*axes.reduced, *axes.streamed)}
    whole = [diag.labels(value) for value in results if not diag.is_emitted(value)]
    shared = _shared([*whole, *(axes.woven for axes in found)])
    common = tuple(label for label in shared if label not in summed)
    produced = [value for op in ops if op.name not in LEAVES for value in op.results]
    streamed = tuple(dict.fromkeys(s for axes in found for s in axes.streamed))
    seen = dict.fromkeys(label for value in produced for label in diag.labels(value))
    contractions = [
        contraction_axes(inner)
        for op in ops
        for inner in array_ops(op)
        if inner.name == "diag.contract"
    ]
    return KernelAxes(
        sizes=tuple(_sizes(ops).items()),
        common=common,
        local=tuple(label for label in seen if label not in common),
        streamed=streamed,
        reduced=tuple(dict.fromkeys(r for axes in found for r in axes.reduced)),
        results=outputs,
        ops=tuple(found),
        contractions=tuple(contractions),
    )


def _sizes(ops: list[ir.Operation]) -> dict[str, int]:
    """Sizes of all axes, in order of appearance; what a map reads has axes of its result."""
    nested = [inner for op in ops for inner in array_ops(op)]
    values = [value for op in nested for value in (*op.operands, *op.results)]
    types = dict.fromkeys(value.type for value in values)
    return diag.join_dims(diag.dims(type_) for type_ in types if diag.is_wire(type_))


def analyze_kernel(kernel: ir.Operation) -> KernelAxes:
    """The axes of a kernel function."""
    ops = [op.operation for op in diag.function_body(kernel).operations]
    return analyze_ops(ops[:-1], ops[-1].operands)
