"""Turn large products of matrices into streams over the summed axis, with what is around them.

Before (RMSNorm and a linear layer; `%r` is made of `%z`):

    %z = "diag.reduce"(%squares) {over = ["d"]}
    %y = "diag.map"() ({ x * r * g })
    %o = "diag.contract"(%y, %w) {over = ["d"]}

After:

    %o = "diag.stream"() {axis = "d", diag.tiled}
      body:  z' = z + sum of squares of the chunk,  o' = o + contract(map x * g, chunk w)
      tail:  o * r

The normalised rows are never stored, and maps of the result join the kernel: its bias, activation,
residual. Blocks of a GPU make one tile of rows and columns each, and walk the summed axis.

Requires: streams are derived; run on functions. Rows and columns are wires in bf16 or f16 of which
one alone has each axis of the result; the columns are not computed in the kernel.

Declines: sums over several axes; statistics that no law streams together with the product (a mean
that is subtracted), or without which rows may be beyond the range of f16; what the cost model finds
to be faster with the library's product, and kernels of their own for what is around it
(`library=auto`). What no law streams stays as it is, with a remark.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import element_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.cloning import Mapping, clone_all
from diagc.passes.contractions.fuse_normalization import move_statistics, moves_statistics
from diagc.passes.contractions.product_times import (
    DTYPES,
    kernel_seconds,
    library_seconds,
    pass_seconds,
)
from diagc.passes.kernels.library_products import is_library
from diagc.passes.kernels.tiled_products import TILED
from diagc.passes.remarks import counted, declined, done
from diagc.passes.streams.derive_streams import put_stream

__all__ = ["StreamProductsPass"]

NARROWEST = 64
"""Rows, columns and summed positions below which a tile would be empty for the most part."""

_NARROW = 2
"""Bytes of what a kernel reads again for every tile of columns, at most."""

_MOST_TOGETHER = 2
"""Products whose sums share the registers of a tile."""


@dataclass(frozen=True)
class StreamProductsPass(Pass):
    """turn large products into streams over the summed axis, with the norms and maps around."""

    name: ClassVar[str] = "stream-products"
    products: bool = False
    """Whether the target has tiles of matrix products that it walks in chunks."""
    library: str = "auto"

    def run(self, op: ir.Operation) -> None:
        """Visit every contraction of the function; kernels are left alone."""
        if not self.products or diag.is_kernel(op) or not _has_body(op):
            return
        stayed = 0
        while True:
            graph = Graph(op.regions[0].blocks[0])
            products = [each for each in graph.ops if each.name == "diag.contract"]
            if stayed == len(products):
                return
            if not _visit(op, graph, products[stayed], always=self.library == "none"):
                stayed += 1


def _has_body(function: ir.Operation) -> bool:
    return bool(len(function.regions[0].blocks))


def _visit(function: ir.Operation, graph: Graph, op: ir.Operation, *, always: bool) -> bool:
    """Stream a contraction if that is better; whether it has gone."""
    product = _product(graph, op)
    if product is None:
        return False
    around = _Around(graph, product)
    if not always:
        if not around.before and not around.behind:
            return False
        seconds, others = around.own_seconds(), around.library_seconds()
        if seconds >= others:
            declined(function, op, _declined_text(around, seconds, others))
            return False
    return _stream(function, graph, product, around)


# ---- which products -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """Contractions of the same rows with columns over one axis; several meet in one map."""

    ops: tuple[ir.Operation, ...]
    rows: ir.Value
    axis: str

    @property
    def columns(self) -> list[ir.Value]:
        """The other operands."""
        return [value for op in self.ops for value in op.operands if value != self.rows]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the results."""
        return diag.labels(self.ops[0].results[0])


def _product(graph: Graph, op: ir.Operation) -> _Product | None:
    """The contraction as a product; None where it is none that tiles serve well."""
    rows = _rows_of(op)
    if rows is None:
        return None
    (axis,) = reduced_axes(op)
    users = graph.users(op.results[0])
    ops = [
        other
        for other in graph.users(rows)
        if other.name == "diag.contract"
        and _rows_of(other) == rows
        and diag.dims(other.results[0]) == diag.dims(op.results[0])
        and (other == op or (len(users) == 1 and graph.users(other.results[0]) == users))
    ]
    return _Product(tuple(ops if len(ops) <= _MOST_TOGETHER else [op]), rows, axis)


def _rows_of(op: ir.Operation) -> ir.Value | None:
    """The operand with the rows of a contraction that is a large product of 16-bit matrices."""
    over, labels = reduced_axes(op), diag.labels(op.results[0])
    if len(over) != 1 or len(labels) < 2 or is_library(op):
        return None
    if any(str(diag.element_type(value)) not in DTYPES for value in op.operands):
        return None
    left, right = op.operands
    rows, columns = (right, left) if labels[-1] in diag.labels(left) else (left, right)
    own = [x for x in labels if x not in diag.labels(columns)]
    batch = set(diag.labels(columns)) - {labels[-1], over[0]}
    if left == right or labels[-1] in diag.labels(rows) or not own:
        return None
    if not batch <= set(diag.labels(rows)):
        return None
    sizes = diag.join_dims(map(diag.dims, op.operands))
    wanted = (own[-1], labels[-1], over[0])
    return rows if all(sizes[x] == diag.DYNAMIC or sizes[x] >= NARROWEST for x in wanted) else None


# ---- what is around, and what it saves -----------------------------------------------------------


class _Around:
    """Statistics and maps in front of a product, maps behind it."""

    def __init__(self, graph: Graph, product: _Product) -> None:
        self.graph, self.product = graph, product
        self.before = self._before()
        self.statistics = [op for op in self.before if op.name == "diag.reduce"]
        self.behind = list(self._behind())

    def _before(self) -> list[ir.Operation]:
        """Cheap maps along the summed axis that nothing else reads, and statistics of the rows.

        All of what makes the rows, or nothing: they are narrow wires of others then.
        """
        graph, (op, *_), axis = self.graph, self.product.ops, self.product.axis
        found: dict[ir.Operation, None] = {}
        stack = [self.product.rows]
        while stack:
            made = defining_op(stack.pop())
            if made is None or made in found or made.name not in ("diag.map", "diag.reduce"):
                continue
            if made.name == "diag.reduce" and reduced_axes(made) != [axis]:
                continue
            if graph.carries(made.results[0], axis) and not _is_cheap(made):
                return []
            found[made] = None
            stack += graph.reads[made]
        inside = {*found, *self.product.ops}
        users = {user for made in found for user in graph.users(made.results[0])}
        wide = (v for v in self._sources(found) if element_bytes(diag.element_type(v)) > _NARROW)
        if not users <= inside or any(graph.carries(value, axis) for value in wide):
            return []
        reduces = any(made.name == "diag.reduce" for made in found)
        if reduces and not moves_statistics(op, list(op.operands).index(self.product.rows)):
            return []
        return graph.in_order(found)

    def _behind(self) -> Iterator[ir.Operation]:
        """Maps of the results, each the only reader of what it follows."""
        (op, *_), labels = self.product.ops, set(self.product.labels)
        while True:
            users = self.graph.users(op.results[0])
            if len(users) != 1 or users[0].name != "diag.map":
                return
            (op,) = users
            if set(diag.labels(op.results[0])) != labels:
                return
            yield op

    def _sources(self, made: Iterable[ir.Operation]) -> list[ir.Value]:
        """The wires that ops read and do not make."""
        inside = {op.results[0] for op in made}
        reads = dict.fromkeys(value for op in made for value in self.graph.reads[op])
        return [value for value in reads if value not in inside and diag.is_wire(value.type)]

    # -- seconds ---------------------------------------------------------------------------------
    def own_seconds(self) -> float:
        """Of one kernel for all of it."""
        sources = self._sources(self.before) if self.before else [self.product.rows]
        return kernel_seconds(self.product.ops, sources, [*self.product.columns, self._last()])

    def library_seconds(self) -> float:
        """Of the library's products, and kernels for what is in front of them and behind them."""
        total = sum(map(library_seconds, self.product.ops))
        if self.before:
            total += pass_seconds([*self._sources(self.before), self.product.rows])
        if self.behind:
            results = [op.results[0] for op in self.product.ops]
            total += pass_seconds([*results, self._last()])
        return total

    def _last(self) -> ir.Value:
        return (self.behind or self.product.ops)[-1].results[0]


def _is_cheap(op: ir.Operation) -> bool:
    """Whether it costs little to compute an op again for every tile of columns."""
    if op.name == "diag.reduce":
        return False
    inner = diag.walk_ops(op.regions[0])
    return not any(each.name.startswith("math.") for each in inner)


def _declined_text(around: _Around, own: float, others: float) -> str:
    saved = [f"{counted(len(around.before), 'op')} in front"] if around.before else []
    saved += [f"{counted(len(around.behind), 'map')} behind"] if around.behind else []
    return (
        f"the library's product and kernels for {' and '.join(saved)} are estimated at "
        f"{1e6 * others:.3g} µs, one kernel for all at {1e6 * own:.3g} µs"
    )


# ---- rewriting -----------------------------------------------------------------------------------


def _stream(function: ir.Operation, graph: Graph, product: _Product, around: _Around) -> bool:
    """Move statistics behind the products, and stream these together; else the first alone.

    Where no law streams what that would give, all stays as it is.
    """
    axis, ops = product.axis, list(product.ops)
    try:
        if around.statistics:
            _try_copies(graph, product, around)
            ops = _moved(ops, product.rows)
            graph = Graph(graph.block)
        derived = _derived(graph, axis, [*around.statistics, *ops], ops[0], around)
    except Refusal as refusal:
        text = f'the product does not walk axis "{axis}" tile by tile: {refusal}'
        declined(function, product.ops[0], text)
        return False
    done(ops[0], f'the product walks axis "{axis}" tile by tile, with what is around it')
    put_stream(function, graph, derived, mark=TILED)
    return True


def _try_copies(graph: Graph, product: _Product, around: _Around) -> None:
    """Derive the stream of copies, which are erased again.

    Raises:
        Refusal: no law streams them.
    """
    known = set(graph.ops)
    mapping: Mapping = {}
    ops = graph.in_order([*around.before, *product.ops])
    copies = dict(zip(ops, clone_all(ops, mapping, ir.InsertionPoint(ops[-1])), strict=True))
    statistics = [copies[op] for op in around.statistics]
    try:
        moved = _moved([copies[op] for op in product.ops], mapping[product.rows])
        _derived(Graph(graph.block), product.axis, [*statistics, *moved], moved[0], around)
    finally:
        for view in reversed(list(graph.block.operations)):
            if view.operation not in known:
                view.operation.erase()


def _moved(ops: Sequence[ir.Operation], rows: ir.Value) -> list[ir.Operation]:
    """Products whose rows have lost their statistics, which scale the results."""
    return [move_statistics(op, list(op.operands).index(rows)) for op in ops]


def _derived(
    graph: Graph,
    axis: str,
    together: Sequence[ir.Operation],
    alone: ir.Operation,
    around: _Around,
) -> Derivation:
    """A stream of reductions that computes maps of rows again, but nothing of columns.

    Raises:
        Refusal: no law streams all of them together, nor the one alone.
    """

    def derived(reductions: Sequence[ir.Operation]) -> Derivation:
        again = _cone(graph, axis, reductions) if around.before else set()
        return derive(graph, axis, graph.in_order(reductions), again)

    try:
        return derived(together)
    except Refusal:
        return derived([alone])


def _cone(graph: Graph, axis: str, reductions: Sequence[ir.Operation]) -> set[ir.Operation]:
    """Cheap maps of rows with the axis that only the reductions read, at once or by each other."""
    columns = diag.labels(reductions[-1].results[0])[-1]
    found: set[ir.Operation] = set()
    stack = [value for op in reductions for value in op.operands]
    while stack:
        value = stack.pop()
        made = defining_op(value)
        if made is None or made in found or made.name != "diag.map" or not _is_cheap(made):
            continue
        if graph.carries(value, axis) and not graph.carries(value, columns):
            found.add(made)
            stack += graph.reads[made]
    while True:
        inside = {*found, *reductions}
        others = {op for op in found if not set(graph.users(op.results[0])) <= inside}
        if not others:
            return found
        found -= others
