"""Sums under a causal mask, taken apart into chunks: scores within a chunk, states across chunks.

A sum over x of f(q, x) where x <= q, with f a product of wires that have one of the two axes each,
is cut at chunks of both axes: q = (c, i), x = (c', j). Where c' < c all positions count, so the sum
over x can be taken first: a state S of chunk c', added up over c' < c. Where c' = c the sum is the
old one, of a short axis. With masks along several axes (pairs of keys) every combination of "an
earlier chunk" and "the same chunk" is a term.

    out[c, i] = sum over j of f((c, i), (c, j)) where j <= i
              + sum over d of q[c, i, d] * P[c, d, e],   P[c] = sum over c' < c of S[c']

The sum over c' < c is one more factor of the network, a matrix of zeros and ones, so that its place
in the order is found like that of any other contraction. With squares all is summed in f64, as in
`wide_squares`, but for scores of 16 bits, which `chunk_guard` keeps accurate.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from diagc.algebra.expressions import maximum, symbol
from diagc.algebra.graph import Graph
from diagc.algebra.maps import cast, map_expr
from diagc.algebra.networks import LARGEST_NETWORK, Leaf, Network, Order, cheapest
from diagc.algebra.refusal import Refusal
from diagc.cost import UNKNOWN_SIZE, deciding_device, op_flops
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.cloning import clone
from diagc.passes.contractions.chain_search import MaskedChain, degree
from diagc.passes.contractions.chunk_axes import CausalMasks, ChunkAxes, causal_masks
from diagc.passes.contractions.chunk_guard import ChunkGuard, chunk_guard, gram_step
from diagc.passes.contractions.chunk_times import SumTimes
from diagc.passes.contractions.network_builder import NetworkBuilder, is_placed

__all__ = ["ChunkedSums", "chunked_sums"]

SIZES = (16, 32, 64, 128, 256)
"""Positions of a chunk; divisors of the axis near these are tried."""

FEWEST_CHUNKS = 4

_F64 = 2.0
"""What an operation in f64 costs, in those of f32."""

_STATES = 2.5
"""What an operation on states costs, in those of a stream of scores: states go through memory, and
their products are short. Measured on AVX2 with 4 heads, d = 64: l2 attention of 1024 positions 10.2
ms, in one stream 6.1; 2048 positions 21.8 and 23.4; 4096 positions 34.3 and 91.1; without a
statistic 1024 positions 3.7 and 5.7."""


@dataclass(frozen=True)
class Term:
    """The part of a sum whose keys along the axes `past` are in earlier chunks than the row."""

    past: frozenset[str]
    network: Network
    order: Order


@dataclass(frozen=True)
class ChunkedSums:
    """The sums of a chain cut at chunks; `cost`, and `before` of one stream, in the same unit."""

    chain: MaskedChain
    axes: ChunkAxes
    terms: tuple[tuple[Term, ...], ...]
    guard: ChunkGuard | None
    cost: float
    before: float

    @property
    def saved(self) -> str:
        """Both costs for people."""
        if deciding_device().kind == "gpu":
            return f"an estimated {1e6 * self.cost:.3g} µs instead of {1e6 * self.before:.3g} µs"
        return f"{self.cost:.3g} instead of {self.before:.3g} operations"

    def values(self, graph: Graph) -> list[ir.Value]:
        """Emit all roots; one value per root."""
        near = _Near(self.chain, self.axes, graph).values()
        builders = [self._builders(place) for place in range(len(near))]
        totals = [
            self._total(place, value, each)
            for place, (value, each) in enumerate(zip(near, builders, strict=True))
        ]
        if self.guard is not None:
            (term,), (builder,) = self.terms[self.guard.square], builders[self.guard.square]
            gram = gram_step(term.network, term.order, self.axes)
            assert gram is not None  # else there were no guard
            return self.guard.values(graph, self.axes, totals, builder.part(gram))
        roots = self.chain.roots
        return [
            self.axes.joined(total, diag.dims(root.results[0]))
            for root, total in zip(roots, totals, strict=True)
        ]

    def _builders(self, place: int) -> list[NetworkBuilder]:
        """Of the terms of a root."""
        type_ = ir.F64Type.get() if self.chain.has_squares and self.guard is None else None
        net = self.chain.networks[place]
        return [_builder(term, net, self.axes, type_) for term in self.terms[place]]

    def _total(self, place: int, near: ir.Value, builders: Sequence[NetworkBuilder]) -> ir.Value:
        """A root with cut axes: the old sum within chunks, and the terms of earlier keys."""
        far = self._far(place, builders)
        result = self.chain.roots[place].results[0]
        return map_expr(
            symbol("near") + symbol("far"),
            {"near": near, "far": far},
            diag.element_type(far),
            dtype=diag.element_type(result),
            result=self.axes.dims(diag.dims(result)),
        )

    def _far(self, place: int, builders: Sequence[NetworkBuilder]) -> ir.Value:
        """The sum of the terms with keys in earlier chunks; a sum of squares is at least 0."""
        terms = self.terms[place]
        pairs = zip(builders, terms, strict=True)
        wires = {f"t{n}": builder.part(term.order) for n, (builder, term) in enumerate(pairs)}
        total = sum((symbol(name) for name in list(wires)[1:]), symbol("t0"))
        total = total * terms[0].network.number
        dtype = diag.element_type(wires["t0"])
        dims = {label: diag.dims(wires["t0"])[label] for label in terms[0].network.result}
        is_square = degree(self.chain.networks[place], self.chain.contraction) == 2
        return map_expr(maximum(total, 0.0) if is_square else total, wires, dtype, result=dims)


def chunked_sums(graph: Graph, chain: MaskedChain, *, wide: bool = False) -> ChunkedSums:
    """The cheapest way to cut the sums of a chain at chunks; `wide`: with squares all in f64.

    Raises:
        Refusal: the masks are not causal, an axis is open, or no size of chunks divides it.
    """
    op = chain.contraction
    found = [causal_masks(net, op) for net in chain.networks]
    masks = found[0]
    if any(other != masks for other in found):
        raise Refusal("sums of one contraction have different masks", op)
    sizes = {chain.networks[0].sizes[axis] for axis in (masks.row, *masks.keys)}
    if diag.DYNAMIC in sizes or len(sizes) != 1:
        raise Refusal("a causal mask over open axes, or of different sizes, is not cut", op)
    (length,) = sizes
    taken = {label for wire in _wires(graph) for label in diag.labels(wire)}
    guard = chunk_guard(graph, chain) if chain.has_squares and not wide else None
    tried = [
        _with_chunks(chain, ChunkAxes(masks, size, length // size, _names(masks, taken)), guard)
        for size in _sizes(length)
    ]
    if not tried:
        raise Refusal(f"no size of chunks divides {length} positions into enough", op)
    return min(tried, key=lambda way: way.cost)


def _sizes(length: int) -> list[int]:
    """The divisors of a length that are nearest to each of `SIZES`, without those far off."""
    most = min(SIZES[-1], length // FEWEST_CHUNKS)
    divisors = [size for size in range(SIZES[0], most + 1) if length % size == 0]
    near = [min(divisors, key=lambda size: abs(size - wanted)) for wanted in SIZES if divisors]
    return list(dict.fromkeys(near))


def _wires(graph: Graph) -> list[ir.Value]:
    results = [value for op in graph.ops for value in op.results]
    return [value for value in (*graph.block.arguments, *results) if diag.is_wire(value.type)]


def _names(masks: CausalMasks, taken: Collection[str]) -> dict[str, tuple[str, str]]:
    """Names of chunks and positions of every axis, which no wire of the block has."""
    found = {}
    for axis in (masks.row, *masks.keys):
        pair = [f"{axis}.chunk", f"{axis}.pos"]
        while any(name in taken for name in pair):
            pair = [name + "'" for name in pair]
        found[axis] = (pair[0], pair[1])
    return found


def _with_chunks(chain: MaskedChain, axes: ChunkAxes, guard: ChunkGuard | None) -> ChunkedSums:
    keys = list(axes.masks.keys)
    choices = [
        frozenset(past) for count in range(1, len(keys) + 1) for past in combinations(keys, count)
    ]
    terms = []
    for net in chain.networks:
        cut = [_cut_network(net, axes, past) for past in choices]
        if any(len(each.leaves) > LARGEST_NETWORK for each in cut):
            raise Refusal("too many wires to contract in another order", chain.contraction)
        found = [
            Term(past, each, cheapest(each, UNKNOWN_SIZE))
            for past, each in zip(choices, cut, strict=True)
        ]
        terms.append(tuple(found))
    if guard is not None:
        (square,) = terms[guard.square]
        guard = guard if gram_step(square.network, square.order, axes) else None
    way = ChunkedSums(chain, axes, tuple(terms), guard, 0.0, 0.0)
    cost, before = _seconds(way) if deciding_device().kind == "gpu" else _operations(way)
    return replace(way, cost=cost, before=before)


def _operations(way: ChunkedSums) -> tuple[float, float]:
    """Of the sums in chunks, and of half of all scores."""
    near, before = _flops(way)
    cost = sum(term.order.cost for terms in way.terms for term in terms)
    wide = _F64 if way.chain.has_squares and way.guard is None else 1.0
    return _STATES * (wide * cost + near), before


def _seconds(way: ChunkedSums) -> tuple[float, float]:
    """Of the sums in chunks, and of one stream; on a GPU, where states go through memory."""
    near, before = _flops(way)
    wide = way.chain.has_squares and way.guard is None
    times = SumTimes(deciding_device(), wide=wide)
    orders = [(term.network, term.order) for terms in way.terms for term in terms]
    row = way.axes.names[way.axes.masks.row][1]
    cost = times.in_chunks(orders, row, near, guarded=way.guard is not None)
    return cost, times.streamed(way.chain.networks, before)


def _flops(way: ChunkedSums) -> tuple[float, float]:
    """Of scores within chunks and what is summed of them, and of half of all scores."""
    ops = [*way.chain.through, *way.chain.roots]
    keys = list(way.axes.masks.keys)
    near = sum(op_flops(op) / way.axes.count ** _keys_of(op, keys) for op in ops)
    return near, sum(op_flops(op) for op in ops) / 2


def _keys_of(op: ir.Operation, keys: Collection[str]) -> int:
    """How many key axes an op works on: that many factors shorter it is within a chunk."""
    wires = [value for value in (*op.operands, *op.results) if diag.is_wire(value.type)]
    return len({label for wire in wires for label in diag.labels(wire)} & set(keys))


def _cut_network(net: Network, axes: ChunkAxes, past: frozenset[str]) -> Network:
    """The network of a term; the last leaves are the masks, whose wires are yet to be made."""

    def cut(leaf: Leaf) -> Leaf:
        return Leaf(leaf.wire, axes.labels(leaf.axes, past))

    row_chunk, row = axes.names[axes.masks.row]
    masks = []
    for key in axes.masks.keys:
        chunk, inner = axes.names[key]
        labels = (row_chunk, chunk) if key in past else (row, inner)
        masks.append(Leaf(net.leaves[0].wire, labels))
    kept = [cut(condition) for condition in net.conditions if is_placed(net, condition)]
    return replace(
        net,
        leaves=(*map(cut, net.leaves), *masks),
        conditions=tuple(kept),
        result=axes.labels(net.result),
        sizes={**net.sizes, **axes.sizes},
    )


def _builder(term: Term, net: Network, axes: ChunkAxes, type_: ir.Type | None) -> NetworkBuilder:
    """What emits a term of `net`, without its number."""
    leaves = [_cut(leaf, axes, term.past, type_) for leaf in net.leaves]
    for key, leaf in zip(axes.masks.keys, term.network.leaves[len(leaves) :], strict=True):
        make = axes.earlier if key in term.past else axes.within
        leaves.append(Leaf(make(key, type_ or ir.F32Type.get()), leaf.axes))
    conditions = [_cut(leaf, axes, term.past) for leaf in net.conditions if is_placed(net, leaf)]
    made = replace(term.network, leaves=tuple(leaves), conditions=tuple(conditions))
    return NetworkBuilder(made, type_)


def _cut(leaf: Leaf, axes: ChunkAxes, past: Collection[str], type_: ir.Type | None = None) -> Leaf:
    """A leaf whose wire has the names of the network, and is cut.

    It is converted first: then copies of a wire under other names are views of one wire.
    """
    wire = leaf.wire if type_ is None else cast(leaf.wire, type_)
    names = leaf.renaming()
    wire = axes.cut(diag.relabel(wire, names) if names else wire, past)
    return Leaf(wire, diag.labels(wire))


class _Near:
    """The old ops on wires that are cut: keys are in the chunk of the row."""

    def __init__(self, chain: MaskedChain, axes: ChunkAxes, graph: Graph) -> None:
        self._chain = chain
        self._axes = axes
        self._graph = graph
        self._values: dict[ir.Value, ir.Value] = {}
        masks = [
            condition.wire
            for net in chain.networks
            for condition in net.conditions
            if not is_placed(net, condition)
        ]
        self._values.update(dict.fromkeys(masks, axes.mask()))

    def values(self) -> list[ir.Value]:
        """One value per root."""
        roots = [root.results[0] for root in self._chain.roots]
        for op in self._graph.in_order([*self._chain.through, *self._chain.roots]):
            for value in self._graph.reads[op]:
                if value not in self._values and diag.is_wire(value.type):
                    self._values[value] = self._axes.cut(value)
            self._copy(op)
        return [self._values[root] for root in roots]

    def _copy(self, op: ir.Operation) -> None:
        result = op.results[0]
        copy = clone(op, self._values)
        dims = self._axes.dims(diag.dims(result))
        copy.results[0].set_type(diag.wire(dims, diag.element_type(result)))
        if "over" in op.attributes:
            over = diag.strings(op.attributes["over"])
            inner = [self._axes.names.get(label, ("", label))[1] for label in over]
            copy.attributes["over"] = diag.string_array(inner)
