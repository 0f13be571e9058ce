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
that is subtracted); what the cost model finds to be faster with the library's product, and kernels
of their own for what is around it (`library=auto`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.graph import Graph
from diagc.algebra.refusal import Refusal
from diagc.algebra.streams import Derivation, derive
from diagc.cost import deciding_device, element_bytes, elements, op_flops, value_bytes
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.cloning import used_values
from diagc.passes.derive_streams import put_stream
from diagc.passes.fuse_normalization import move_statistics
from diagc.passes.library_products import is_library
from diagc.passes.remarks import counted, declined, done
from diagc.passes.tiled_products import TILED

__all__ = ["StreamProductsPass"]

NARROWEST = 64
"""Rows, columns and summed positions below which a tile would be empty for the most part."""

_OWN, _LIBRARY = 0.6, 0.75
"""Of the peak of tensor cores: what kernels are taken to reach, and the library. Not measured."""

_DTYPES = ("bf16", "f16")


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
        block = op.regions[0].blocks[0]
        for found in [view.operation for view in block.operations]:
            if found.name == "diag.contract":
                _visit(op, Graph(block), found, always=self.library == "none")


def _has_body(function: ir.Operation) -> bool:
    return bool(len(function.regions[0].blocks))


def _visit(function: ir.Operation, graph: Graph, op: ir.Operation, *, always: bool) -> None:
    product = _product(graph, op)
    if product is None:
        return
    around = _Around(graph, product)
    if not always:
        if not around.before and not around.behind:
            return
        seconds, others = around.own_seconds(), around.library_seconds()
        if seconds >= others:
            declined(function, op, _declined_text(around, seconds, others))
            return
    _stream(function, graph, product, around)


# ---- which products -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Product:
    """A contraction of rows with columns over one axis."""

    op: ir.Operation
    rows: ir.Value
    columns: ir.Value
    axis: str


def _product(graph: Graph, op: ir.Operation) -> _Product | None:
    """The contraction as a product; None where it is none that tiles serve well."""
    over, labels = reduced_axes(op), diag.labels(op.results[0])
    if len(over) != 1 or len(labels) < 2 or is_library(op) or not labels:
        return None
    if any(str(diag.element_type(value)) not in _DTYPES for value in op.operands):
        return None
    left, right = op.operands
    rows, columns = (right, left) if labels[-1] in diag.labels(left) else (left, right)
    others = [label for label in diag.labels(columns) if label not in (labels[-1], over[0])]
    own = set(diag.labels(rows)) - set(diag.labels(columns))
    if labels[-1] in diag.labels(rows) or not own or set(others) - set(diag.labels(rows)):
        return None
    sizes = diag.join_dims(map(diag.dims, op.operands))
    row = [label for label in labels if label in own][-1]
    long = all(n == diag.DYNAMIC or n >= NARROWEST for n in (sizes[labels[-1]], sizes[over[0]]))
    return _Product(op, rows, columns, over[0]) if long and sizes[row] != 1 else None


# ---- what is around, and what it saves -----------------------------------------------------------


class _Around:
    """Statistics and maps in front of a product, maps behind it."""

    def __init__(self, graph: Graph, product: _Product) -> None:
        self.graph, self.product = graph, product
        self.before = self._before()
        self.statistics = [op for op in self.before if op.name == "diag.reduce"]
        self.behind = list(self._behind())

    def _before(self) -> list[ir.Operation]:
        """Maps along the summed axis, which nothing else reads, and the statistics in them."""
        graph, axis = self.graph, self.product.axis
        found: dict[ir.Operation, None] = {}
        stack = [(self.product.rows, self.product.op)]
        while stack:
            value, reader = stack.pop()
            op = defining_op(value)
            if op is None or op in found or op.name not in ("diag.map", "diag.reduce"):
                continue
            if op.name == "diag.reduce" and reduced_axes(op) != [axis]:
                continue
            found[op] = None
            stack += [(read, op) for read in graph.reads[op]]
        return self._closed(graph.in_order(found))

    def _closed(self, found: list[ir.Operation]) -> list[ir.Operation]:
        """Those that nobody else reads: all, or none, for their statistics belong together."""
        inside = {*found, self.product.op}
        users = {user for op in found for user in self.graph.users(op.results[0])}
        return found if users <= inside else []

    def _behind(self) -> Iterator[ir.Operation]:
        """Maps of the result, each the only reader of what it follows."""
        op = self.product.op
        labels = set(diag.labels(op.results[0]))
        while True:
            users = self.graph.users(op.results[0])
            if len(users) != 1 or users[0].name != "diag.map":
                return
            (op,) = users
            if set(diag.labels(op.results[0])) != labels:
                return
            yield op

    # -- seconds ---------------------------------------------------------------------------------
    def own_seconds(self) -> float:
        """Of one kernel for all of it."""
        return self._seconds(_OWN, self._sources(), self._last())

    def library_seconds(self) -> float:
        """Of the library's product, and a kernel for what is in front of it and behind it."""
        device, op = deciding_device(), self.product.op
        total = self._seconds(_LIBRARY, [self.product.rows], op.results[0])
        bandwidth = device.levels[-1].bandwidth
        if self.before:
            moved = sum(map(value_bytes, (*self._sources(), self.product.rows)))
            total += device.launch_seconds + moved / bandwidth
        if self.behind:
            moved = value_bytes(op.results[0]) + value_bytes(self._last())
            total += device.launch_seconds + moved / bandwidth
        return total

    def _seconds(self, share: float, rows: Sequence[ir.Value], result: ir.Value) -> float:
        device, op = deciding_device(), self.product.op
        dtype = str(diag.element_type(self.product.rows))
        moved = sum(map(value_bytes, (*rows, self.product.columns, result)))
        work = op_flops(op) / (share * device.product_rate(dtype))
        return device.launch_seconds + max(work, moved / device.levels[-1].bandwidth)

    def _sources(self) -> list[ir.Value]:
        """Wires with rows and the summed axis that the kernel reads."""
        if not self.before:
            return [self.product.rows]
        made = {op.results[0] for op in self.before}
        reads = dict.fromkeys(v for op in self.before for v in self.graph.reads[op])
        return [v for v in reads if v not in made and diag.is_wire(v.type)]

    def _last(self) -> ir.Value:
        return (self.behind or [self.product.op])[-1].results[0]


def _declined_text(around: _Around, own: float, others: float) -> str:
    saved = [f"{counted(len(around.before), 'op')} in front"] if around.before else []
    saved += [f"{counted(len(around.behind), 'map')} behind"] if around.behind else []
    return (
        f"the library's product and kernels for {' and '.join(saved)} are estimated at "
        f"{1e6 * others:.3g} µs, one kernel for all at {1e6 * own:.3g} µs"
    )


# ---- rewriting -----------------------------------------------------------------------------------


def _stream(function: ir.Operation, graph: Graph, product: _Product, around: _Around) -> None:
    """Move statistics behind the product, and stream it with them; else alone."""
    op, axis, block = product.op, product.axis, graph.block
    if around.statistics:
        number = list(op.operands).index(product.rows)
        op = move_statistics(op, number)
        graph = Graph(block)
    statistics = [x for x in graph.ops if x in around.statistics]
    for reductions in ([*statistics, op], [op]):
        derived = _derived(graph, axis, reductions)
        if derived is not None:
            break
    else:
        return
    done(op, f'the product walks axis "{axis}" tile by tile, with what is around it')
    put_stream(function, graph, derived, mark=TILED)


def _derived(graph: Graph, axis: str, reductions: list[ir.Operation]) -> Derivation | None:
    """A stream of these reductions that computes maps of rows again, but nothing of columns."""
    again = _rows_cone(graph, axis, reductions)
    try:
        return derive(graph, axis, graph.in_order(reductions), again)
    except Refusal:
        return None


def _rows_cone(graph: Graph, axis: str, reductions: Sequence[ir.Operation]) -> set[ir.Operation]:
    """Maps with the axis that only the reductions read, directly or through each other."""
    *statistics, op = reductions
    found: set[ir.Operation] = set()
    labels = set(diag.labels(op.results[0]))
    stack = [v for x in reductions for v in x.operands if labels - set(diag.labels(v)) or x != op]
    while stack:
        value = stack.pop()
        made = defining_op(value)
        if made is None or made in found or made.name != "diag.map":
            continue
        if not graph.carries(value, axis) or diag.labels(op.results[0])[-1] in diag.labels(value):
            continue
        found.add(made)
        stack.extend(graph.reads[made])
    inside = {*found, *reductions}
    while True:
        bad = {x for x in found if not set(graph.users(x.results[0])) <= inside}
        if not bad:
            return found
        found -= bad
        inside -= bad
