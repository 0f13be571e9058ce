"""Analysis: what are rows, matrix products, operands in shared memory; changes nothing.

Every value inside a block has the label of rows and at most one other; an argument with two others
is a column operand. A kernel that does not fit is refused with the reason, and another lowering
takes it.

A stream of products with vectors (one query on many keys) has one row that bears no label,
`ONE_ROW`: no value has it, so that all rows of a block are the same.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.passes.kernels.kernel_axes import analyze_kernel, is_leaf
from diagc.passes.kernels.schedules import read_schedule
from diagc.passes.kernels.tiled_products import streamed_axes, tiled_stream
from diagc.runtime.signature import KernelSignature

if TYPE_CHECKING:
    from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = [
    *("ONE_ROW", "Plan", "Product", "Staged"),
    *("array_ops", "is_one_row", "make_plan", "read_wires", "stage_of", "trace"),
]

ONE_ROW = ""
"""The row label of kernels whose products have a vector for rows; of size 1, no value has it."""

_DTYPES = ("f32", "f16", "bf16", "f8E4M3FN", "i1", "i32", "index")
_ARRAY_OPS = (
    "diag.chunk",
    "diag.constant",
    "diag.contract",
    "diag.index",
    "diag.map",
    "diag.reduce",
    "diag.relabel",
    "diag.stream",
    "diag.yield",
    "arith.constant",
    "func.return",
)


@dataclass(frozen=True)
class Product:
    """A contraction of a value with rows and `inner` and an array with `inner` and `column`."""

    op: ir.Operation
    rows: ir.Value
    columns: ir.Value
    inner: str
    column: str


@dataclass(frozen=True)
class Staged:
    """An argument that goes through shared memory.

    Args:
        argument: its number.
        lines: the label, of the argument, that counts lines.
        inner: the label along a line.
        streamed: the one of both that comes in chunks, if any.
    """

    argument: int
    lines: str
    inner: str
    streamed: str | None


@dataclass(frozen=True)
class Plan:
    """What was found out about a kernel.

    Args:
        kernel: the function.
        signature: its interface.
        row: label of rows.
        grid: labels with one block per position.
        products: contractions that are matrix products, by the value that they make.
        staged: arguments in shared memory.
        rewritten: maps of one staged argument that stay while a stream runs: they may take its
            place in shared memory, as nothing else reads it, and only products read the map.
        sizes: of every label, `diag.DYNAMIC` where open.
        packed: a label all of whose positions are rows of a block, too; see `tiles.packing`.
        tiled: a label of columns that blocks share, each a tile of them; all others are whole.
        walked: a label that a product in a stream sums over piece by piece; see `tiles.packing`.
    """

    kernel: ir.Operation
    signature: KernelSignature
    row: str
    grid: tuple[str, ...]
    products: Mapping[ir.Value, Product]
    staged: tuple[Staged, ...]
    rewritten: Mapping[ir.Value, Staged]
    sizes: Mapping[str, int]
    streamed: frozenset[str]
    packed: str | None = None
    tiled: str | None = None
    walked: str | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """The labels whose positions are rows."""
        return (self.row,) if self.packed is None else (self.packed, self.row)

    def local(self, value: ir.Value) -> tuple[str, ...]:
        """Labels that are not split by the grid."""
        return tuple(label for label in diag.labels(value) if label not in self.grid)

    def shape(self, value: ir.Value) -> tuple[bool, str | None]:
        """Whether a value has rows, and its other label in a block."""
        local = self.local(value)
        columns = [label for label in local if label not in self.rows]
        return len(columns) < len(local), columns[0] if columns else None

    def extent(self, label: str, schedule: "TileSchedule") -> int:
        """Positions, of a label that neither streams nor counts rows, that a block works on."""
        return schedule.columns if label == self.tiled else self.sizes[label]

    @property
    def has_scores(self) -> bool:
        """Whether anything is computed that has a chunk's positions as columns."""
        ops = (op for op in array_ops(self.kernel) if op.name in ("diag.contract", "diag.map"))
        return any(self.shape(op.results[0])[1] in self.streamed for op in ops)

    @property
    def is_relative(self) -> bool:
        """Whether all columns are of 16 bits: a reference of f32 may be rounded once more."""
        columns = (str(diag.element_type(p.columns)) for p in self.products.values())
        return all(dtype in ("f16", "bf16") for dtype in columns)

    @property
    def sum_over_rows(self) -> ir.Operation | None:
        """An op that sums over rows, so that one block must hold all of them."""
        for op in array_ops(self.kernel):
            summed = op.name in ("diag.reduce", "diag.contract")
            if summed and self.row in diag.strings(op.attributes["over"]):
                return op
        return None

    @property
    def is_uneven(self) -> bool:
        """Whether blocks differ in how much of a stream they visit."""
        bounds = ("diag.upper", "diag.lower")
        return any(name in op.attributes for op in self.streams() for name in bounds)

    @property
    def grows(self) -> bool:
        """Whether later rows may see more of a stream, so that their blocks take longer."""
        return any("diag.upper" in op.attributes for op in self.streams())

    def streams(self) -> list[ir.Operation]:
        """All streams, in order."""
        return list(self._streams)

    @cached_property
    def _streams(self) -> tuple[ir.Operation, ...]:
        return tuple(op for op in array_ops(self.kernel) if op.name == "diag.stream")


def array_ops(kernel: ir.Operation) -> Iterator[ir.Operation]:
    """The array-level ops of a kernel, those of streams too, without the bodies of maps."""
    for op in diag.walk_ops(kernel.regions[0]):
        parent = op.parent
        if parent is not None and parent.operation.name != "diag.map":
            yield op


def trace(value: ir.Value) -> tuple[ir.Value, dict[str, str]] | None:
    """The argument of the kernel that a value is, and its labels there.

    None where the value is computed.
    """
    names = {label: label for label in diag.labels(value)}
    while not isinstance(value.owner, ir.Block):
        op = value.owner.operation
        if op.name == "diag.relabel":
            back = {new: old for old, new in op.opview.names.items()}
            names = {label: back.get(old, old) for label, old in names.items()}
        elif op.name != "diag.chunk":
            return None
        value = op.operands[0]
    owner = value.owner.owner
    return (value, names) if owner.operation.name == "func.func" else None


def is_one_row(plan: Plan, rows: ir.Value) -> bool:
    """Whether rows are an argument that is a vector and stays while a stream runs."""
    streamed = plan.streamed & set(diag.labels(rows))
    return plan.row == ONE_ROW and not streamed and trace(rows) is not None


def make_plan(kernel: ir.Operation, signature: KernelSignature) -> Plan:
    """Try the labels that may be rows, the most promising first.

    Raises:
        UnsupportedError: no label fits; the reason is that of the most promising one.
    """
    axes = analyze_kernel(kernel)
    sizes = _sizes(kernel)
    empty = sorted(label for label, size in sizes.items() if size == 0)
    if empty:
        raise _refusal(kernel, f"the axes {', '.join(empty)} have no positions")
    errors: list[UnsupportedError] = []
    tiled = _tiled_columns(kernel)
    for row in _candidates(kernel, axes.common, sizes):
        if row == tiled:
            continue
        grid = tuple(label for label in axes.common if label not in (row, tiled))
        try:
            return _Planner(kernel, signature, row, grid, sizes, tiled).plan()
        except UnsupportedError as error:
            errors.append(error)
    if errors and axes.streamed and tiled is None:
        try:
            return _Planner(kernel, signature, ONE_ROW, axes.common, {**sizes, ONE_ROW: 1}).plan()
        except UnsupportedError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    raise _refusal(kernel, "there is no contraction whose result has rows and columns")


def _tiled_columns(kernel: ir.Operation) -> str | None:
    """The label of columns that blocks share: neighbours of a product that is made in tiles."""
    stream = tiled_stream(kernel)
    return None if stream is None else streamed_axes(stream).columns


def _candidates(
    kernel: ir.Operation, common: tuple[str, ...], sizes: Mapping[str, int]
) -> list[str]:
    """Labels of contractions' results that one operand lacks, the most promising first.

    That is the axis that the kernel's schedule cuts into tiles; then common axes before others,
    open before long ones, inner ones first.
    """
    chosen = read_schedule(kernel)
    tiled = None if chosen is None else chosen.lanes
    found: dict[str, None] = {}
    for op in array_ops(kernel):
        if op.name == "diag.contract":
            lhs, rhs = (set(diag.labels(operand)) for operand in op.operands)
            labels = diag.labels(op.results[0])
            found |= dict.fromkeys(label for label in labels if (label in lhs) != (label in rhs))

    position = {label: number for number, label in enumerate(found)}

    def order(label: str) -> tuple[bool, bool, bool, int, int]:
        closed = sizes[label] != diag.DYNAMIC
        return label != tiled, label not in common, closed, -sizes[label], -position[label]

    return sorted(found, key=order)


def _sizes(kernel: ir.Operation) -> dict[str, int]:
    sizes: dict[str, int] = {}
    values = [*diag.function_body(kernel).arguments]
    values += [value for op in array_ops(kernel) for value in op.results]
    for value in values:
        if diag.is_wire(value.type):
            for label, size in diag.dims(value).items():
                known = sizes.get(label, diag.DYNAMIC)
                sizes[label] = size if known == diag.DYNAMIC else known
    return sizes


def read_wires(op: ir.Operation) -> list[ir.Value]:
    """What an op reads; of a map, what its elements are of."""
    if op.name != "diag.map":
        return list(op.operands)
    inner = diag.walk_ops(op.regions[0])
    return [element.operands[0] for element in inner if element.name == "diag.element"]


def _refusal(op: ir.Operation, reason: str) -> UnsupportedError:
    return UnsupportedError(op.name, reason=f"tiles: {reason}", location=op.location)


def stage_of(plan: "Plan | _Planner", value: ir.Value) -> Staged | None:
    """What brings an argument to shared memory.

    None for a value that is computed, or that has not two labels in a block.
    """
    found = trace(value)
    if found is None:
        return None
    argument, names = found
    split = (*plan.grid, plan.packed)
    here = [label for label in diag.labels(value) if label not in split]
    local = [names[label] for label in here]
    if len(local) != 2:
        return None
    streamed = [names[x] for x in here if x in plan.streamed]
    streamed += [names[x] for x in here if x == plan.walked]
    last = diag.labels(argument)[-1]
    inner = last if last in local else local[-1]
    lines = next(label for label in local if label != inner)
    number = list(diag.function_body(plan.kernel).arguments).index(argument)
    return Staged(number, lines, inner, streamed[0] if streamed else None)


@dataclass
class _Planner:
    """Checks a kernel for one choice of rows."""

    kernel: ir.Operation
    signature: KernelSignature
    row: str
    grid: tuple[str, ...]
    sizes: dict[str, int]
    tiled: str | None = None
    packed: None = None
    walked: None = None

    @cached_property
    def streamed(self) -> frozenset[str]:
        """Axes of streams."""
        streams = [op for op in array_ops(self.kernel) if op.name == "diag.stream"]
        return frozenset(ir.StringAttr(op.attributes["axis"]).value for op in streams)

    def plan(self) -> Plan:
        ops = list(array_ops(self.kernel))
        for op in ops:
            self._check(op)
        found = [self._product(op) for op in ops if op.name == "diag.contract"]
        products = {p.op.results[0]: p for p in found if p is not None}
        if not products:
            raise _refusal(self.kernel, f"no contraction is a matrix product with rows {self.row}")
        staged = dict.fromkeys(s for op in ops for s in self._staged(op, products))
        return Plan(
            self.kernel,
            self.signature,
            self.row,
            self.grid,
            products,
            tuple(staged),
            dict(self._rewritten(products.values())),
            self.sizes,
            self.streamed,
            tiled=self.tiled,
        )

    def _local(self, value: ir.Value) -> list[str]:
        return [label for label in diag.labels(value) if label not in self.grid]

    # -- what fits -------------------------------------------------------------------------------
    def _check(self, op: ir.Operation) -> None:
        if op.name not in _ARRAY_OPS:
            raise _refusal(op, "there is no rule for it")
        for value in (*op.operands, *op.results):
            if diag.is_wire(value.type) and str(diag.element_type(value)) not in _DTYPES:
                raise _refusal(op, f"elements are {diag.element_type(value)}")
        if op.name == "diag.map":
            if diag.is_stored_float(diag.element_type(op.results[0])):
                raise _refusal(op, "it rounds to f8")
            self._check_small(op, op.results[0])
            for value in read_wires(op):
                self._check_small(op, value)
        elif op.name in ("diag.reduce", "diag.contract"):
            self._check_sum(op)
        elif op.name == "diag.stream":
            self._check_stream(op)
        elif op.name == "diag.relabel":
            self._check_relabel(op)
        elif op.name == "diag.constant" and not is_leaf(op):
            raise _refusal(op, "it is a table")

    def _check_small(self, op: ir.Operation, value: ir.Value) -> None:
        """A value in registers has rows and one more label."""
        columns = [label for label in self._local(value) if label != self.row]
        if len(columns) > 1:
            raise _refusal(op, f"a value has the columns {', '.join(columns)}")

    def _check_sum(self, op: ir.Operation) -> None:
        over = diag.strings(op.attributes["over"])
        if set(over) & {*self.grid, self.tiled}:
            raise _refusal(op, f"it sums over {over}, which the grid splits")
        if self.row in over and self.sizes[self.row] == diag.DYNAMIC:
            raise _refusal(op, "it sums over rows, which are of open size")
        if self.row in over and self._local(op.results[0]):
            raise _refusal(op, "it sums over rows and keeps columns")
        if op.name == "diag.reduce":
            self._check_small(op, op.operands[0])

    def _check_stream(self, op: ir.Operation) -> None:
        axis = ir.StringAttr(op.attributes["axis"]).value
        if axis in (self.row, *self.grid):
            raise _refusal(op, f"it streams over {axis}, which blocks share")
        for argument in op.regions[1].blocks[0].arguments:
            self._check_small(op, argument)

    def _check_relabel(self, op: ir.Operation) -> None:
        if trace(op.results[0]) is None:
            raise _refusal(op, "a computed value is renamed")
        for old, new in op.opview.names.items():
            if {old, new} & {*self.grid, *self.streamed, self.tiled}:
                raise _refusal(op, f"{old}, which is split or streamed, is renamed to {new}")

    # -- products --------------------------------------------------------------------------------
    def _product(self, op: ir.Operation) -> Product | None:
        """The contraction as a product; None where it is a map and a sum of tiles."""
        lhs, rhs = op.operands[0], op.operands[1]
        over = diag.strings(op.attributes["over"])
        if self.row == ONE_ROW:
            rows, columns = sorted(op.operands, key=lambda value: len(self._local(value)))
            wanted = set(over)
        elif (self.row in diag.labels(lhs)) == (self.row in diag.labels(rhs)):
            self._check_elementwise(op)
            return None
        else:
            rows, columns = (lhs, rhs) if self.row in diag.labels(lhs) else (rhs, lhs)
            wanted = {self.row, *over}
        others = [label for label in self._local(columns) if label not in over]
        if len(over) != 1 or len(others) != 1 or set(self._local(rows)) != wanted:
            self._check_elementwise(op)
            return None
        if trace(columns) is None:
            raise _refusal(op, "the operand without rows is computed in the kernel")
        self._check_static(op, over[0])
        self._check_static(op, others[0])
        return Product(op, rows, columns, over[0], others[0])

    def _check_elementwise(self, op: ir.Operation) -> None:
        labels = {*self._local(op.operands[0]), *self._local(op.operands[1])} - {self.row}
        if len(labels) > 1:
            raise _refusal(op, f"it has the columns {', '.join(sorted(labels))}")

    def _check_static(self, op: ir.Operation, label: str) -> None:
        known = self.sizes[label] != diag.DYNAMIC or label in (*self.streamed, self.tiled)
        if not known:
            raise _refusal(op, f"axis {label} is open and not streamed")

    # -- shared memory ---------------------------------------------------------------------------
    def _staged(self, op: ir.Operation, products: Mapping[ir.Value, Product]) -> Iterator[Staged]:
        if op.name == "diag.contract" and op.results[0] in products:
            product = products[op.results[0]]
            values = [product.columns, product.rows]
        elif op.name in ("diag.map", "diag.contract", "diag.reduce"):
            values = [value for value in read_wires(op) if self._is_row_tile(value)]
        else:
            return
        for value in values:
            found = stage_of(self, value)
            if found is not None:
                yield found

    def _rewritten(self, products: Collection[Product]) -> Iterator[tuple[ir.Value, Staged]]:
        readers = {(product.rows, product.op) for product in products}
        for product in products:
            value = product.rows
            if isinstance(value.owner, ir.Block) or value.owner.operation.name != "diag.map":
                continue
            inside = product.op.parent.operation
            wires = read_wires(value.owner.operation)
            sources = [wire for wire in wires if self._is_row_tile(wire)]
            if inside.name != "diag.stream" or len(sources) != 1 or trace(sources[0]) is None:
                continue
            alone = isinstance(sources[0].owner, ir.Block) and len(list(sources[0].uses)) == 1
            alone = alone and all((value, use.owner.operation) in readers for use in value.uses)
            staged = stage_of(self, sources[0])
            if alone and staged is not None and self._same_shape(value, sources[0]):
                yield value, staged

    def _same_shape(self, value: ir.Value, source: ir.Value) -> bool:
        same_element = diag.element_type(value) == diag.element_type(source)
        return same_element and self._local(value) == self._local(source)

    def _is_row_tile(self, value: ir.Value) -> bool:
        """Rows and a column: in shared memory, where all of a line is read at once."""
        columns = [label for label in self._local(value) if label != self.row]
        dtype = str(diag.element_type(value))
        along = columns == list(diag.labels(value)[-1:])
        fits = dtype in ("f32", "f16", "bf16", "f8E4M3FN") or (dtype == "i1" and along)
        return self.row in diag.labels(value) and len(columns) == 1 and fits
