"""Adapter: function in torch-mlir's raw torch dialect -> ATen node list.

Constants, lists and arithmetic of sizes are values in the torch dialect; they are folded into the
arguments of the calls that read them.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from diagc.errors import SourceLocation, UnsupportedError
from diagc.frontend.torch.aten import (
    Input,
    Node,
    Program,
    Ref,
    TensorType,
    bind_schema,
    operator_named,
)
from diagc.frontend.torch.from_fx import CHECKS
from diagc.frontend.torch.sizes import Size, size_of, symbol
from diagc.mlir import ir

__all__ = ["from_torch_mlir"]

_TENSOR = re.compile(r"!torch\.v?tensor<\[(?P<shape>[^\]]*)\],(?P<dtype>[\w<>]+)>")
_DTYPES = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "i1": torch.bool,
    "ui8": torch.uint8,
    "si8": torch.int8,
    "si16": torch.int16,
    "si32": torch.int32,
    "si64": torch.int64,
    "complex<f32>": torch.complex64,
    "complex<f64>": torch.complex128,
}
# torch's ScalarType numbers
_SCALAR_TYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    9: torch.complex64,
    10: torch.complex128,
    11: torch.bool,
    15: torch.bfloat16,
}
_SIZE_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "aten.Int.bool": int,
    "aten.Float.bool": float,
    "aten.Float.Scalar": float,
    "aten.add.int": lambda a, b: a + b,
    "aten.sub.int": lambda a, b: a - b,
    "aten.mul.int": lambda a, b: a * b,
    "aten.neg.int": lambda a: -a,
    "aten.floordiv.int": lambda a, b: a // b,
    "aten.remainder.int": lambda a, b: a % b,
}


def from_torch_mlir(
    module: ir.Module,
    inputs: Sequence[Input],
    symbols: dict[str, tuple[int, int]] | None = None,
    function: str = "main",
) -> Program:
    """Read `function` of a module; `inputs` describe its tensor arguments in order.

    Raises:
        UnsupportedError: an op that is neither an ATen call nor arithmetic of sizes.
    """
    reader = _Reader()
    operation = _function(module, function)
    block = operation.regions[0].blocks[0]
    for operation_ in block.operations:
        reader.note_symbols(operation_.operation)
    arguments = [a for a in block.arguments if _tensor_type(str(a.type)) is not None]
    for argument, source in zip(arguments, inputs, strict=True):
        reader.values[argument] = Ref(source.name)
    for operation_ in block.operations:
        reader.read(operation_.operation)
    return Program(list(inputs), reader.nodes, reader.outputs, "torch-mlir", dict(symbols or {}))


def _function(module: ir.Module, name: str) -> ir.Operation:
    for op in module.body.operations:
        operation: ir.Operation = op.operation
        if operation.name == "func.func" and _string(operation.attributes["sym_name"]) == name:
            return operation
    raise UnsupportedError("torch module", reason=f"it has no function '{name}'")


def _string(attribute: ir.Attribute) -> str:
    return str(ir.StringAttr(attribute).value)


@cache
def _tensor_type(text: str) -> tuple[tuple[int | None, ...], torch.dtype] | None:
    """Shape (None where dynamic) and dtype of the text of a torch tensor type."""
    match = _TENSOR.match(text)
    if match is None:
        return None
    sizes = [s for s in match["shape"].split(",") if s]
    return tuple(None if s == "?" else int(s) for s in sizes), _DTYPES[match["dtype"]]


class _Reader:
    """Reads the ops of one block in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.outputs: list[Any] = []
        self.values: dict[ir.Value, Any] = {}
        self._symbols: dict[ir.Value, str] = {}
        self._shapes: dict[ir.Value, tuple[Size, ...]] = {}

    def note_symbols(self, op: ir.Operation) -> None:
        """Names of symbolic sizes, and the shapes that they are bound to."""
        if op.name == "torch.symbolic_int":
            self._symbols[op.results[0]] = _string(op.attributes["symbol_name"])
        elif op.name == "torch.bind_symbolic_shape":
            tensor, *names = op.operands
            sizes = [symbol(self._symbols[value]) for value in names]
            exprs = op.attributes["shape_expressions"].value.results
            self._shapes[tensor] = tuple(_size(expr, sizes) for expr in exprs)

    def read(self, op: ir.Operation) -> None:
        """Read one op."""
        if op.name in ("torch.symbolic_int", "torch.bind_symbolic_shape"):
            return
        if op.name == "func.return":
            self.outputs = [self.values[value] for value in op.operands]
        elif op.name.startswith("torch.constant."):
            self.values[op.results[0]] = _constant(op)
        elif op.name in ("torch.prim.ListConstruct", "torch.prim.TupleConstruct"):
            self.values[op.results[0]] = self._operands(op)
        elif op.name == "torch.aten.size.int":
            tensor, dim = op.operands
            self.values[op.results[0]] = self._shape(tensor)[self.values[dim]]
        else:
            self._read_call(op)

    def _operands(self, op: ir.Operation) -> list[Any]:
        return [self.values[value] for value in op.operands]

    def _read_call(self, op: ir.Operation) -> None:
        name = _string(op.attributes["name"]) if op.name == "torch.operator" else op.name
        target = name.removeprefix("torch.")
        target = target if target.count(".") > 1 else f"{target}.default"
        args = self._operands(op)
        types = [self._type(value) for value in op.results]
        location = SourceLocation.of(op.location)
        if target in CHECKS:
            return
        if not any(types):
            if target not in _SIZE_ARITHMETIC or len(op.results) != 1:
                raise UnsupportedError(target, location=location)
            self.values[op.results[0]] = size_of(_SIZE_ARITHMETIC[target](*args))
            return
        node = Node(f"v{len(self.nodes)}", target, _named(target, args), tuple(types), location)
        self.nodes.append(node)
        for i, value in enumerate(op.results):
            self.values[value] = Ref(node.name, i)

    def _type(self, value: ir.Value) -> TensorType | None:
        found = _tensor_type(str(value.type))
        return None if found is None else TensorType(self._shape(value), found[1])

    def _shape(self, value: ir.Value) -> tuple[Size, ...]:
        found = _tensor_type(str(value.type))
        assert found is not None
        bound = self._shapes.get(value)
        if bound is None and None in found[0]:
            raise UnsupportedError("a tensor of unknown shape", location=value.location)
        return bound or found[0]


def _constant(op: ir.Operation) -> Any:
    kind = op.name.removeprefix("torch.constant.")
    if kind == "none":
        return None
    value = op.attributes["value"].value
    return {"int": int, "float": float, "bool": bool}.get(kind, lambda v: v)(value)


def _named(target: str, args: Sequence[Any]) -> dict[str, Any]:
    """Arguments under schema names, with numbers of dtypes turned into dtypes."""
    operator = operator_named(target)
    if operator is None:
        raise UnsupportedError(target, reason="torch has no such op")
    named = bind_schema(operator, args, {})
    for argument in operator._schema.arguments:
        value = named.get(argument.name)
        if "ScalarType" in str(argument.real_type) and isinstance(value, int):
            named[argument.name] = _SCALAR_TYPES[value]
    return named


def _size(expr: ir.AffineExpr, symbols: Sequence[Size]) -> Size:
    """The size that an affine expression over symbols stands for."""
    if isinstance(expr, ir.AffineConstantExpr):
        return int(expr.value)
    if isinstance(expr, ir.AffineSymbolExpr):
        return symbols[expr.position]
    operations: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
        (ir.AffineAddExpr, lambda a, b: a + b),
        (ir.AffineMulExpr, lambda a, b: a * b),
        (ir.AffineFloorDivExpr, lambda a, b: a // b),
        (ir.AffineModExpr, lambda a, b: a % b),
    )
    for kind, operation in operations:
        if isinstance(expr, kind):
            return operation(_size(expr.lhs, symbols), _size(expr.rhs, symbols))
    raise UnsupportedError(f"size {expr}")
