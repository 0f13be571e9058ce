"""Import a torch function or module: capture, read, raise, write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from diagc.errors import UserError
from diagc.frontend.torch import (
    raise_concat,
    raise_contract,
    raise_create,
    raise_gather,
    raise_index,
    raise_losses,
    raise_normalize,
    raise_pointwise,
    raise_reduce,
    raise_sdpa,
    views,
)
from diagc.frontend.torch.aten import Program
from diagc.frontend.torch.capture import capture
from diagc.frontend.torch.captured import Captured, Dynamic
from diagc.frontend.torch.emit import emit
from diagc.frontend.torch.extern import ExternCall
from diagc.frontend.torch.from_fx import from_fx
from diagc.frontend.torch.graph import ExternOp, View, reachable
from diagc.frontend.torch.raiser import Note, raise_program
from diagc.frontend.torch.ratios import fixed_ratios
from diagc.mlir import ir

__all__ = [
    "ADAPTERS",
    "Constant",
    "ImportedProgram",
    "Outputs",
    "Parameter",
    "Result",
    "UserInput",
    "import_program",
    "import_torch",
]

RULE_MODULES = (
    raise_concat,
    raise_contract,
    raise_create,
    raise_index,
    raise_gather,
    raise_losses,
    raise_normalize,
    raise_pointwise,
    raise_reduce,
    raise_sdpa,
    views,
)
"""Imported for their rules."""


@dataclass(frozen=True)
class UserInput:
    """Argument number `index` among the flattened example inputs."""

    index: int


@dataclass(frozen=True)
class Parameter:
    """A parameter, buffer or constant that the program reads: a hidden argument."""

    name: str
    tensor: torch.Tensor


@dataclass(frozen=True)
class Result:
    """Result number `index` of the function."""

    index: int


@dataclass(frozen=True)
class Constant:
    """Something that the user's function returns as it is: None, a number, a string."""

    value: Any


@dataclass(frozen=True)
class Outputs:
    """How to rebuild what the user's function returned."""

    spec: pytree.TreeSpec
    leaves: tuple[Result | Constant, ...]

    def rebuild(self, results: Sequence[Any]) -> Any:
        """The user's structure from the results of the function, in user shape."""
        leaves = [x.value if isinstance(x, Constant) else results[x.index] for x in self.leaves]
        return pytree.tree_unflatten(leaves, self.spec)


@dataclass(frozen=True)
class ImportedProgram:
    """A module of diag ops and what it takes to run it in place of the user's function.

    Args:
        module: one public `@main` on wires; `diag.dims`, `diag.kind`, `diag.name` describe its
            arguments, `diag.dims` its results; private declarations for externs.
        parameters: what each argument of `@main` is, in order.
        externs: host calls by symbol.
        outputs: the user's result structure.
        notes: ops that stayed outside, for explain().
        guards: size equalities that were assumed, as text such as `s0 == s1`.
        conditions: see `Captured`.
    """

    module: ir.Module
    parameters: tuple[UserInput | Parameter, ...]
    externs: dict[str, ExternCall]
    outputs: Outputs
    notes: tuple[Note, ...]
    guards: tuple[str, ...]
    conditions: tuple[str, ...] = ()


def _read_fx(captured: Captured) -> Program:
    return from_fx(captured.graph, captured.inputs, captured.symbols)


def _read_torch_mlir(captured: Captured) -> Program:
    from diagc.frontend.torch.from_torch_mlir import from_torch_mlir
    from diagc.frontend.torch.torch_dialect import to_torch_dialect

    module = to_torch_dialect(captured)
    program = from_torch_mlir(module, captured.inputs, captured.symbols)
    tensors = iter(program.outputs)
    (output,) = (node for node in captured.graph.nodes if node.op == "output")
    program.outputs = [
        next(tensors) if isinstance(value, fx.Node) else value for value in output.args[0]
    ]
    return program


ADAPTERS: dict[str, Callable[[Captured], Program]] = {
    "fx": _read_fx,
    "torch-mlir": _read_torch_mlir,
}
"""How a captured graph is read: directly, or as torch-mlir's raw torch dialect."""


def import_torch(
    function: Callable[..., Any],
    example_inputs: tuple[Any, ...],
    *,
    adapter: str = "fx",
    dynamic: Dynamic = False,
    context: ir.Context | None = None,
) -> ImportedProgram:
    """Import `function(*example_inputs)` as a module of diag ops.

    Args:
        function: a function or nn.Module; its parameters become arguments, never literals.
        example_inputs: tensors, or tuples, lists and dicts of tensors, one item per argument.
        adapter: "fx", or "torch-mlir" to go through the raw torch dialect; both give one result.
        dynamic: see `capture`.
        context: where the module lives; a fresh context by default.

    Raises:
        UserError: bad inputs, an unknown adapter, or a function that fails on the inputs.
        UnsupportedError: the function depends on the values of tensors, or writes to its inputs.
    """
    if adapter not in ADAPTERS:
        raise UserError(
            "unknown adapter", expected=" or ".join(map(repr, ADAPTERS)), found=repr(adapter)
        )
    captured = capture(function, example_inputs, dynamic)
    program = ADAPTERS[adapter](captured)
    shapes = [leaf.shape for leaf in pytree.tree_leaves(example_inputs)]
    ratios, assumed = fixed_ratios(captured, shapes)
    program = program.fixed(ratios) if ratios else program
    imported = import_program(program, captured.output_spec, context)
    return replace(imported, conditions=(*captured.conditions, *assumed))


def import_program(
    program: Program, output_spec: pytree.TreeSpec, context: ir.Context | None = None
) -> ImportedProgram:
    """Raise an ATen node list and write it as a module; for other sources of graphs."""
    if context is None:
        from diagc.context import make_context

        context = make_context()
    raiser = raise_program(program)
    returned = [out for out in raiser.outputs if isinstance(out, View)]
    ops = list(reachable(raiser.ops, [view.value for view in returned]))
    emitted = emit(ops, returned, context)
    notes = tuple(Note(op.target, op.location, op.why) for op in ops if isinstance(op, ExternOp))
    parameters = tuple(
        UserInput(i.user_index) if i.user_index is not None else _parameter(i)
        for i in program.inputs
    )
    guards = tuple(dict.fromkeys(f"{a} == {b}" for a, b in raiser.space.guards))
    outputs = Outputs(output_spec, _output_leaves(raiser.outputs))
    return ImportedProgram(emitted.module, parameters, emitted.externs, outputs, notes, guards)


def _parameter(source: Any) -> Parameter:
    return Parameter(source.qualified_name, source.tensor)


def _output_leaves(outputs: Sequence[Any]) -> tuple[Result | Constant, ...]:
    leaves: list[Result | Constant] = []
    count = 0
    for out in outputs:
        if isinstance(out, View):
            leaves.append(Result(count))
            count += 1
        else:
            leaves.append(Constant(out))
    return tuple(leaves)
