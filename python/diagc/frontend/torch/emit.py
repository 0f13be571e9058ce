"""Write the axis graph as a module: one public function `@main` of diag ops on wires."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.emit_scalar import element_type, emit_scalar, literal
from diagc.frontend.torch.extern import ExternCall
from diagc.frontend.torch.graph import (
    AffinePosition,
    ConcatOp,
    ContractOp,
    ExternOp,
    GraphOp,
    InputOp,
    MapOp,
    NormalizeOp,
    PadOp,
    ReduceOp,
    ReindexOp,
    Use,
    Value,
    View,
    counts,
    positions,
)
from diagc.frontend.torch.labels import assign_labels
from diagc.frontend.torch.scalar import Count, Expr, Operand, Position
from diagc.frontend.torch.sizes import Size, product
from diagc.frontend.torch.unstreamable import NO_RULE
from diagc.mlir import arith, func, ir

__all__ = ["Emitted", "emit"]


@dataclass(frozen=True)
class Emitted:
    """The module and its extern calls by symbol."""

    module: ir.Module
    externs: dict[str, ExternCall]


def emit(ops: Sequence[GraphOp], outputs: Sequence[View], context: ir.Context) -> Emitted:
    """Write `ops` (in order, inputs first among them) and return the values of `outputs`."""
    with context, ir.Location.unknown():
        return _Emitter(ops).emit(outputs)


class _Emitter:
    def __init__(self, ops: Sequence[GraphOp]) -> None:
        self._ops = ops
        self._labels = assign_labels(ops)
        self._sizes = self._label_sizes()
        self._values: dict[int, ir.Value] = {}
        self._relabelled: dict[tuple[Any, ...], ir.Value] = {}
        self._wires: dict[tuple[str, str], ir.Value] = {}
        self._externs: dict[str, ExternCall] = {}
        self._module = ir.Module.create()

    def emit(self, outputs: Sequence[View]) -> Emitted:
        inputs = [op for op in self._ops if isinstance(op, InputOp)]
        results = [self._wire_type(view.value) for view in outputs]
        type_ = ir.FunctionType.get([self._wire_type(op.results[0]) for op in inputs], results)
        with ir.InsertionPoint(self._module.body):
            function = func.FuncOp("main", type_, visibility="public")
        block = function.add_entry_block([_location(op) for op in inputs])
        with ir.InsertionPoint(block):
            for op, argument in zip(inputs, block.arguments, strict=True):
                self._values[id(op.results[0])] = argument
            self._emit_body()
            values = [self._values[id(view.value)] for view in outputs]
            func.ReturnOp(values)
        function.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(type_.inputs, [v.type for v in values])
        )
        function.attributes["arg_attrs"] = ir.ArrayAttr.get([self._argument(op) for op in inputs])
        if outputs:
            attributes = [ir.DictAttr.get({"diag.dims": self._dims(v.dims)}) for v in outputs]
            function.attributes["res_attrs"] = ir.ArrayAttr.get(attributes)
        self._add_axis_facts(function)
        return Emitted(self._module, self._externs)

    def _emit_body(self) -> None:
        for op in self._ops:
            if isinstance(op, InputOp):
                continue
            with _location(op):
                made = _WRITERS[type(op)](self, op)
            for value, result in zip(op.results, made, strict=True):
                self._values[id(value)] = result

    # --- labels and types ------------------------------------------------------------------

    def _label_sizes(self) -> dict[str, Size]:
        """The size of each label; a number wins over a symbol that is asserted to equal it."""
        sizes: dict[str, Size] = {}
        for op in self._ops:
            for axis in (a for axes in op.scopes() for a in axes):
                label = self._labels[id(axis)]
                if not isinstance(sizes.get(label), int):
                    sizes[label] = axis.size
        return sizes

    def names(self, axes: Iterable[Axis]) -> list[str]:
        """Labels of axes, split or not."""
        return [self._labels[id(a)] for a in leaves(axes)]

    def size(self, label: str) -> int:
        """The static size of a label, or DYNAMIC."""
        size = self._sizes[label]
        return size if isinstance(size, int) else diag.DYNAMIC

    def sized(self, axes: Iterable[Axis]) -> dict[str, int]:
        """Labels with sizes."""
        return {label: self.size(label) for label in self.names(axes)}

    def _wire_type(self, value: Value) -> ir.Type:
        return diag.wire(self.sized(value.axes), element_type(value.dtype))

    def _dims(self, dims: Iterable[Iterable[Axis]]) -> ir.ArrayAttr:
        return ir.ArrayAttr.get([diag.string_array(self.names(dim)) for dim in dims])

    def _argument(self, op: InputOp) -> ir.DictAttr:
        assert op.source is not None
        attributes = {
            "diag.dims": self._dims(op.dims),
            "diag.kind": ir.StringAttr.get(op.source.kind),
            "diag.name": ir.StringAttr.get(op.source.qualified_name),
        }
        return ir.DictAttr.get(attributes)

    def _add_axis_facts(self, function: func.FuncOp) -> None:
        facts = {
            label: ir.DictAttr.get({"size": ir.StringAttr.get(str(size))})
            for label, size in self._sizes.items()
            if not isinstance(size, int)
        }
        if facts:
            function.attributes["diag.axes"] = ir.DictAttr.get(facts)

    # --- operands --------------------------------------------------------------------------

    def read(self, use: Use) -> ir.Value:
        """The operand under the labels of the reading op."""
        source = self._values[id(use.value)]
        names = {
            self._labels[id(outer)]: self._labels[id(local)] for outer, local in use.leaf_pairs()
        }
        changed = {old: new for old, new in names.items() if old != new}
        if not changed:
            return source
        key = (id(use.value), *sorted(changed.items()))
        if key not in self._relabelled:
            self._relabelled[key] = diag.relabel(source, changed)
        return self._relabelled[key]

    def index(self, label: str) -> ir.Value:
        """The wire of positions along a label."""
        return self._shared("index", label, lambda: diag.index(label, self.size(label)))

    def count(self, label: str) -> ir.Value:
        """The wire that holds the size of a dynamic label: a sum of ones."""

        def make() -> ir.Value:
            i64 = ir.IntegerType.get_signless(64)
            sizes = {label: self.size(label)}
            one = diag.map_([], lambda: arith.constant(i64, 1), result=sizes, dtype=i64)
            return diag.reduce(one, [label], "add")

        return self._shared("count", label, make)

    def _shared(self, kind: str, label: str, make: Callable[[], ir.Value]) -> ir.Value:
        if (kind, label) not in self._wires:
            self._wires[kind, label] = make()
        return self._wires[kind, label]

    # --- ops -------------------------------------------------------------------------------

    def contract(self, op: ContractOp) -> list[ir.Value]:
        left, right = (self.read(use) for use in op.uses)
        result = op.results[0]
        dtype, order = element_type(result.dtype), self.names(result.axes)
        return [diag.contract(left, right, self.names(op.over), dtype=dtype, order=order)]

    def map(self, op: MapOp) -> list[ir.Value]:
        expr = op.expr
        assert expr is not None
        indices = list(dict.fromkeys(self.names(positions(expr))))
        sizes = [n for n in self.names(counts(expr)) if self.size(n) == diag.DYNAMIC]
        sizes = list(dict.fromkeys(sizes))
        wires = [self.read(use) for use in op.uses]
        wires += [self.index(n) for n in indices] + [self.count(n) for n in sizes]
        keys = [*range(len(op.uses)), *(f"i {n}" for n in indices), *(f"c {n}" for n in sizes)]

        def body(*scalars: ir.Value) -> ir.Value:
            read = dict(zip(keys, scalars, strict=True))
            return emit_scalar(expr, lambda e: self._leaf(e, read))

        result = op.results[0]
        dtype = element_type(result.dtype)
        return [diag.map_(wires, body, result=self.sized(result.axes), dtype=dtype)]

    def _leaf(self, expr: Expr, read: dict[Any, ir.Value]) -> ir.Value:
        if isinstance(expr, Operand):
            return read[expr.number]
        if isinstance(expr, Position):
            return self._flat([(n, read[f"i {n}"]) for n in self.names(expr.axes)], read)
        assert isinstance(expr, Count)
        total = literal(1, "index")
        for label in self.names(expr.axes):
            total = arith.muli(total, self._size_value(label, read))
        return total

    def _flat(self, parts: Sequence[tuple[str, ir.Value]], read: dict[Any, ir.Value]) -> ir.Value:
        """The position along a dim of several axes, row major."""
        (_, total), *rest = parts
        for label, position in rest:
            total = arith.addi(arith.muli(total, self._size_value(label, read)), position)
        return total

    def _size_value(self, label: str, read: dict[Any, ir.Value]) -> ir.Value:
        if self.size(label) != diag.DYNAMIC:
            return literal(self.size(label), "index")
        return arith.index_cast(ir.IndexType.get(), read[f"c {label}"])

    def reduce(self, op: ReduceOp) -> list[ir.Value]:
        return [diag.reduce(self.read(op.uses[0]), self.names(op.over), op.kind)]

    def normalize(self, op: NormalizeOp) -> list[ir.Value]:
        source, *further = (self.read(use) for use in op.uses)
        return [
            diag.normalize(
                source,
                self.names(op.along),
                op.kind,
                keep=further.pop(0) if op.masked else None,
                parameters=further,
                eps=op.eps,
                eps_place=None if op.eps is None else op.place,
            )
        ]

    def reindex(self, op: ReindexOp) -> list[ir.Value]:
        source, result = self.read(op.uses[0]), op.results[0]
        names = self.names(result.axes)
        dims = {label: ir.AffineDimExpr.get(i) for i, label in enumerate(names)}
        found: dict[str, ir.AffineExpr] = {}
        for axes, position in op.source:
            found.update(self._source_positions(axes, position, dims))
        exprs = [found[label] for label in diag.labels(source)]
        affine = ir.AffineMap.get(len(names), 0, exprs)
        return [diag.reindex(source, self.sized(result.axes), affine)]

    def _source_positions(
        self, axes: Sequence[Axis], position: AffinePosition, dims: dict[str, ir.AffineExpr]
    ) -> dict[str, ir.AffineExpr]:
        """For each label of a group of source axes, the position that is read."""
        labels = self.names(axes)
        if position.axis is not None and leaves([position.axis]) == leaves(axes):
            return {label: dims[label] for label in labels}
        flat = ir.AffineConstantExpr.get(position.offset)
        if position.axis is not None:
            flat = self._flat_affine(self.names([position.axis]), dims) * position.step
            flat = flat + position.offset
        return {labels[0]: flat} if len(labels) == 1 else self._digits(flat, labels)

    def _flat_affine(self, labels: Sequence[str], dims: dict[str, ir.AffineExpr]) -> ir.AffineExpr:
        total = dims[labels[0]]
        for label in labels[1:]:
            total = total * self.size(label) + dims[label]
        return total

    def _digits(self, flat: ir.AffineExpr, labels: Sequence[str]) -> dict[str, ir.AffineExpr]:
        """The position along each of several axes that a flat position stands for."""
        found: dict[str, ir.AffineExpr] = {}
        stride = product(self.size(n) for n in labels)
        for label in labels:
            stride //= self.size(label)
            digit = ir.AffineExpr.get_floor_div(flat, stride)
            found[label] = ir.AffineExpr.get_mod(digit, self.size(label))
        return found

    def concat(self, op: ConcatOp) -> list[ir.Value]:
        assert op.joined is not None
        wires, labels = [], []
        for use, axes in zip(op.uses, op.along, strict=True):
            wire, label = self._merged(self.read(use), self.names(axes))
            wires.append(wire)
            labels.append(label)
        names = self.names([op.joined])
        whole = names[0] if len(names) == 1 else self._fresh()
        joined = diag.concat(wires[0], wires[1], labels, whole)
        return [self._split(joined, whole, names)]

    def pad(self, op: PadOp) -> list[ir.Value]:
        assert op.padded is not None
        wire, axis = self._merged(self.read(op.uses[0]), self.names(op.axes))
        names = self.names([op.padded])
        whole = names[0] if len(names) == 1 else self._fresh()
        padded = diag.pad(wire, axis, whole, op.low, op.high, op.fill)
        return [self._split(padded, whole, names)]

    def _fresh(self) -> str:
        """A label that no axis has."""
        taken = set(self._sizes)
        label = next(n for n in (f"w{i}" for i in range(len(taken) + 1)) if n not in taken)
        self._sizes[label] = diag.DYNAMIC
        return label

    def _merged(self, wire: ir.Value, labels: Sequence[str]) -> tuple[ir.Value, str]:
        """The wire with several axes merged into one, because `concat` and `pad` act on one."""
        if len(labels) == 1:
            return wire, labels[0]
        whole = self._fresh()
        sizes = diag.dims(wire)
        kept = {label: size for label, size in sizes.items() if label not in labels}
        result = {**kept, whole: int(product(sizes[label] for label in labels))}
        dims = {label: ir.AffineDimExpr.get(i) for i, label in enumerate(result)}
        found = {**dims, **self._digits(dims[whole], labels)}
        affine = ir.AffineMap.get(len(result), 0, [found[label] for label in sizes])
        return diag.reindex(wire, result, affine), whole

    def _split(self, wire: ir.Value, whole: str, labels: Sequence[str]) -> ir.Value:
        """The inverse of `_merged`."""
        if len(labels) == 1:
            return wire
        sizes = diag.dims(wire)
        parts = {label: self.size(label) for label in labels}
        result: dict[str, int] = {}
        for label, size in sizes.items():
            result.update(parts if label == whole else {label: size})
        dims = {label: ir.AffineDimExpr.get(i) for i, label in enumerate(result)}
        found = {**dims, whole: self._flat_affine(labels, dims)}
        affine = ir.AffineMap.get(len(result), 0, [found[label] for label in sizes])
        return diag.reindex(wire, result, affine)

    def extern(self, op: ExternOp) -> list[ir.Value]:
        symbol = f"extern_{len(self._externs)}"
        operands = [self.read(use) for use in op.uses]
        results = [self._wire_type(value) for value in op.results]
        type_ = ir.FunctionType.get([o.type for o in operands], results)
        with ir.InsertionPoint(self._module.body):
            declared = func.FuncOp(symbol, type_, visibility="private")
        declared.attributes[diag.EXTERN] = ir.StringAttr.get(op.target)
        if op.why and op.why != NO_RULE:
            declared.attributes["diag.reason"] = ir.StringAttr.get(op.why)
        for name, groups in (("arg_attrs", op.operand_dims), ("res_attrs", op.result_dims)):
            if groups:
                attributes = [ir.DictAttr.get({"diag.dims": self._dims(g)}) for g in groups]
                declared.attributes[name] = ir.ArrayAttr.get(attributes)
        assert op.call is not None
        self._externs[symbol] = ExternCall(
            symbol,
            op.target,
            op.call,
            tuple(self._label_dims(dims) for dims in op.operand_dims),
            tuple(self._label_dims(dims) for dims in op.result_dims),
            op.location,
            op.why,
        )
        return list(func.CallOp(results, symbol, operands).results)

    def _label_dims(self, dims: Iterable[Iterable[Axis]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(self.names(dim)) for dim in dims)


_WRITERS: dict[type[GraphOp], Callable[[_Emitter, Any], list[ir.Value]]] = {
    ContractOp: _Emitter.contract,
    MapOp: _Emitter.map,
    ReduceOp: _Emitter.reduce,
    NormalizeOp: _Emitter.normalize,
    ReindexOp: _Emitter.reindex,
    ConcatOp: _Emitter.concat,
    PadOp: _Emitter.pad,
    ExternOp: _Emitter.extern,
}


def _location(op: GraphOp) -> ir.Location:
    """The user's line, under the name of the value."""
    where: SourceLocation | None = op.location
    file = ir.Location.unknown()
    if where is not None:
        file = ir.Location.file(where.file, where.line, where.column)
    return ir.Location.name(op.name, file) if op.name else file
