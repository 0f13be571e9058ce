"""Evaluates what the torch front end made with the reference interpreter, in float64."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils import _pytree as pytree

from diagc.dialects import diag
from diagc.frontend.torch import ImportedProgram, UserInput, import_torch
from diagc.mlir import ir
from diagc.passes.verification import verify_module_labels
from diagc.targets.interp import evaluate

Array = npt.NDArray[Any]
Dims = Sequence[Sequence[str]]
Check = Callable[..., ImportedProgram]


def _array(tensor: torch.Tensor) -> Array:
    kind = torch.float64 if tensor.is_floating_point() else torch.int64
    return tensor.detach().to(torch.bool if tensor.dtype == torch.bool else kind).numpy()


def _split(tensor: torch.Tensor, labels: Sequence[str], dims: Dims, sizes: dict[str, int]) -> Array:
    """A user's tensor as an array with axes `labels`; open sizes are learned on the way."""
    shape: list[int] = []
    for group, size in zip(dims, tensor.shape, strict=True):
        known = [sizes.get(label, -1) for label in group]
        rest = size // int(np.prod([s for s in known if s > 0], dtype=int))
        parts = [s if s > 0 else rest for s in known]
        sizes |= dict(zip(group, parts, strict=True))
        shape += parts
    flat = [label for group in dims for label in group]
    return np.transpose(_array(tensor).reshape(shape), [flat.index(label) for label in labels])


def _merge(array: Array, labels: Sequence[str], dims: Dims) -> torch.Tensor:
    """The inverse of `_split`."""
    flat = [label for group in dims for label in group]
    ordered = np.transpose(array, [list(labels).index(label) for label in flat])
    sizes = iter(ordered.shape)
    shape = [int(np.prod([next(sizes) for _ in group], dtype=int)) for group in dims]
    return torch.from_numpy(np.array(ordered).reshape(shape).copy())


def _dims(function: ir.Operation, name: str) -> list[Dims]:
    if name not in function.attributes:
        return []
    groups = [ir.DictAttr(a)["diag.dims"] for a in ir.ArrayAttr(function.attributes[name])]
    return [[diag.strings(group) for group in ir.ArrayAttr(g)] for g in groups]


def run(program: ImportedProgram, inputs: tuple[Any, ...]) -> Any:
    """What `program` computes for the user's `inputs`."""
    functions = {f.attributes["sym_name"].value: f for f in diag.functions(program.module)}
    block = diag.function_body(functions["main"])
    leaves = pytree.tree_leaves(inputs)
    sizes: dict[str, int] = {}
    for argument in block.arguments:
        sizes |= {n: s for n, s in diag.dims(argument).items() if s != diag.DYNAMIC}
    arrays = []
    argument_dims = _dims(functions["main"], "arg_attrs")
    for source, argument, dims in zip(
        program.parameters, block.arguments, argument_dims, strict=True
    ):
        tensor = leaves[source.index] if isinstance(source, UserInput) else source.tensor
        arrays.append(_split(tensor, diag.labels(argument), dims, sizes))

    def host(symbol: str) -> Callable[..., list[Array]]:
        call, function = program.externs[symbol], functions[symbol]
        type_ = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)

        def evaluate_extern(*operands: Array) -> list[Array]:
            tensors = [
                _merge(array, diag.labels(t), dims)
                for array, t, dims in zip(operands, type_.inputs, call.operand_dims, strict=True)
            ]
            results = call.call(*tensors)
            return [
                _split(tensor, diag.labels(t), dims, dict(sizes) | diag.dims(t))
                for tensor, t, dims in zip(results, type_.results, call.result_dims, strict=True)
            ]

        return evaluate_extern

    externs = {symbol: host(symbol) for symbol in program.externs}
    found = evaluate(program.module, arrays, externs=externs)
    operands = list(block.operations)[-1].operation.operands
    result_dims = _dims(functions["main"], "res_attrs")
    results = [
        _merge(np.asarray(array), diag.labels(value), dims)
        for array, value, dims in zip(found, operands, result_dims, strict=True)
    ]
    return program.outputs.rebuild(results)


def _double(tree: Any) -> Any:
    return pytree.tree_map(
        lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, tree
    )


def _assert_close(found: Any, expected: Any, tolerance: float) -> None:
    found, expected = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(found) == len(expected)
    for value, reference in zip(found, expected, strict=True):
        if not isinstance(reference, torch.Tensor):
            assert value == reference
            continue
        assert value.shape == reference.shape
        scale = reference.double().nan_to_num(0, 0, 0).abs().max() if reference.numel() else 1
        torch.testing.assert_close(
            value.double(),
            reference.double(),
            rtol=tolerance,
            atol=tolerance * float(scale),
            equal_nan=True,
        )


def op_names(program: ImportedProgram) -> list[str]:
    """Names of the ops of `@main`, in order; of an extern, its target."""
    functions = {f.attributes["sym_name"].value: f for f in diag.functions(program.module)}
    names = []
    for op in diag.function_body(functions["main"]).operations:
        operation = op.operation
        if operation.name == "func.call":
            names.append(program.externs[operation.attributes["callee"].value].target)
        elif operation.name != "func.return":
            names.append(operation.name.removeprefix("diag."))
    return names


@pytest.fixture
def ops() -> Callable[[ImportedProgram], list[str]]:
    return op_names


@pytest.fixture
def interpret() -> Callable[[ImportedProgram, tuple[Any, ...]], Any]:
    return run


@pytest.fixture
def check_import() -> Check:
    """Import through both adapters; the meaning must be the function's own, the op lists equal."""

    def check(
        function: Any, *inputs: Any, tolerance: float = 1e-11, double: bool = True
    ) -> ImportedProgram:
        if double:
            inputs = _double(inputs)
            if isinstance(function, torch.nn.Module):
                function = copy.deepcopy(function).double()
        with torch.no_grad():
            expected = function(*pytree.tree_map(lambda x: x, inputs))
        programs = []
        for adapter in ("fx", "torch-mlir"):
            program = import_torch(function, inputs, adapter=adapter)
            assert program.module.operation.verify()
            verify_module_labels(program.module)
            _assert_close(run(program, inputs), expected, tolerance)
            programs.append(program)
        assert op_names(programs[0]) == op_names(programs[1])
        return programs[0]

    return check
