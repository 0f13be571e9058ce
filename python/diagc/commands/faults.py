"""Which part of the compiler makes a function differ from eager: a pass, a kernel, or another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diagc.commands.kernel_checks import check_kernels
from diagc.compiler import compile_module, emit, find_entry
from diagc.context import make_context
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.options import CompileOptions, use
from diagc.passes.pipeline import Pipeline
from diagc.runtime.comparison import compare_results, max_error, tensors_of
from diagc.runtime.sizes import label_sizes
from diagc.runtime.steps import ExternCall
from diagc.runtime.torch_launch import TORCH_DTYPES
from diagc.stages import pipeline_steps
from diagc.targets import get_target, interp

if TYPE_CHECKING:
    from diagc.api import CompiledFunction
    from diagc.runtime.program import Program

__all__ = ["Fault", "find_fault"]

Array = Any
Arrays = Sequence[Any]
Labels = Sequence[str]

# A pass may only change the order of float64 arithmetic.
_PASS_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Fault:
    """What is to blame.

    Args:
        part: "pass", "kernel", "import" or "host program".
        name: of the pass or kernel; empty for others.
        detail: what was measured.
    """

    part: str
    name: str
    detail: str

    def text(self) -> str:
        """Give one line."""
        return f"{self.part}{f' {self.name}' if self.name else ''}: {self.detail}"


def find_fault(
    function: Callable[..., Any],
    compiled: "CompiledFunction",
    inputs: tuple[Any, ...],
    options: CompileOptions,
) -> Fault:
    """The first part that is wrong, for a function that is known to differ from eager.

    Passes are judged first, by the float64 meaning of the diagram before and after each; then each
    kernel, on the arrays that it really gets; then the import, by that meaning against eager.

    Args:
        function: what was compiled.
        compiled: with sizes that are fixed.
        inputs: of one call.
        options: that it was compiled with.
    """
    program, tensors = compiled.bind(*inputs)
    options = replace(options, target=get_target(options.target).spec)
    found = _faulty_pass(program, tensors, compiled.source_ir, options)
    found = found or _faulty_kernel(program, tensors, compiled.source_ir, options)
    return found or _faulty_import(function, inputs, program, tensors, compiled.source_ir)


# ---- passes --------------------------------------------------------------------------------------


def _faulty_pass(
    program: "Program", tensors: Sequence[torch.Tensor], source: str, options: CompileOptions
) -> Fault | None:
    arrays = _arrays(program, tensors)
    with make_context(), use(options), ir.Location.unknown():
        module = ir.Module.parse(source)
        name = diag.symbol_of(find_entry(module))
        externs = dict(_externs(program, module))
        expected = interp.evaluate(module, arrays, name, externs)
        for step in pipeline_steps(options):
            Pipeline(f"builtin.module({step.text})", options).run(module)
            found = interp.evaluate(module, arrays, name, externs)
            error = max(map(_relative, found, expected), default=0.0)
            if error > _PASS_TOLERANCE:
                detail = f"the diagram behind it (stage {step.stage}) is off by {error:.1e}"
                return Fault("pass", step.name, f"{detail} of the largest value, in float64")
    return None


def _relative(found: Array, expected: Array) -> float:
    exact = torch.from_numpy(np.array(expected))  # a copy, for some cannot be written
    error = max_error(torch.from_numpy(np.array(found)), exact)
    finite = exact[exact.isfinite()].abs() if exact.is_floating_point() else exact.abs()
    return error / (float(finite.max()) or 1.0) if finite.numel() else error


def _arrays(program: "Program", tensors: Sequence[torch.Tensor]) -> list[Array]:
    """Inputs as the diagram has them: one axis for each label."""
    known = label_sizes(program.inputs, [tuple(tensor.shape) for tensor in tensors])
    return [
        _split(tensor, entry.type.labels, entry.dims, known)
        for entry, tensor in zip(program.inputs, tensors, strict=True)
    ]


def _split(
    tensor: torch.Tensor, labels: Labels, dims: Sequence[Labels], sizes: Mapping[str, int]
) -> Array:
    order = [label for group in dims for label in group]
    wide = tensor.double() if tensor.is_floating_point() else tensor
    array = wide.detach().cpu().reshape([sizes[label] for label in order])
    return array.permute([order.index(label) for label in labels]).numpy()


def _merge(array: Array, labels: Labels, dims: Sequence[Labels]) -> torch.Tensor:
    order = [label for group in dims for label in group]
    sizes = dict(zip(labels, array.shape, strict=True))
    tensor = torch.from_numpy(np.array(array, order="C"))  # the interpreter gives views
    tensor = tensor.permute([labels.index(label) for label in order])
    return tensor.reshape([int(np.prod([sizes[label] for label in group])) for group in dims])


def _externs(
    program: "Program", module: ir.Module
) -> Iterator[tuple[str, Callable[..., list[Array]]]]:
    """The host's operations, as the interpreter calls them: in the dtypes that they were made for.

    What they give counts as exact, for it is the same before and after a pass.
    """
    types = {
        diag.symbol_of(op): ir.FunctionType(ir.TypeAttr(op.attributes["function_type"]).value)
        for op in diag.functions(module)
    }
    for step in program.steps:
        if isinstance(step, ExternCall) and step.symbol in types:
            yield step.symbol, _extern(program.externs[step.symbol], step, types[step.symbol])


def _extern(call: Callable[..., Any], step: ExternCall, type_: Any) -> Callable[..., list[Array]]:
    dtypes = [TORCH_DTYPES[str(wire.element_type)] for wire in type_.inputs]

    def run(*arrays: Array) -> list[Array]:
        operands = zip(arrays, type_.inputs, step.arg_dims, dtypes, strict=True)
        tensors = [_merge(a, diag.labels(t), dims).to(dtype) for a, t, dims, dtype in operands]
        results = zip(tensors_of(call(*tensors)), type_.results, step.result_dims, strict=True)
        return [_split(x, diag.labels(t), dims, diag.dims(t)) for x, t, dims in results]

    return run


# ---- kernels, import -----------------------------------------------------------------------------


def _faulty_kernel(
    program: "Program", tensors: Sequence[torch.Tensor], source: str, options: CompileOptions
) -> Fault | None:
    """The kernel that is off most, if any is off by more than rounding explains."""
    checks = check_kernels(program, tensors, emit(source, "general", options), options)
    worst = max(checks, key=lambda check: check.error or 0.0, default=None)
    if worst is None or (worst.error or 0.0) <= _kernel_tolerance(program):
        return None
    detail = f"off by {worst.error:.1e} of the largest value, on the arrays that it gets"
    return Fault("kernel", worst.name, f"{detail}; DIAGC_KERNELS_OFF={worst.name} runs without it")


def _kernel_tolerance(program: "Program") -> float:
    """Half of the digits of the narrowest result: a wrong term costs more, rounding less."""
    dtypes = [dtype for dtype in program.result_dtypes() if dtype.is_floating_point]
    return max((torch.finfo(dtype).eps ** 0.5 for dtype in dtypes), default=0.0)


def _faulty_import(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    program: "Program",
    tensors: Sequence[torch.Tensor],
    source: str,
) -> Fault:
    """Passes and kernels are right: does the diagram mean what the function does?"""
    with make_context(), ir.Location.unknown():
        meaning = compile_module(ir.Module.parse(source), "interp", externs=program.externs)
        results = meaning(tensors)
    with torch.no_grad():
        eager = tensors_of(function(*inputs))
        if len(eager) == len(results):
            found = compare_results(function, inputs, eager, results)
            if found.equal:
                return Fault("host program", "", "diagram, passes and kernels are right")
            return Fault("import", "", f"the diagram that was read is wrong: {found.text()}")
    return Fault("import", "", f"the function gives {len(eager)} tensors, not {len(results)}")
