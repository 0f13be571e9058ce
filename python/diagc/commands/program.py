"""What the commands work on: something that can be compiled, with arguments for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, Self

import diagc
from diagc.mlir import ir
from diagc.options import CompileOptions, option_names

if TYPE_CHECKING:
    import torch

    from diagc.api import CompiledFunction
    from diagc.runtime.program import Program as LoweredProgram

__all__ = [
    "Compiled",
    "CompiledDiagram",
    "DiagramProgram",
    "Program",
    "TorchProgram",
    "require_device",
]


def require_device(device: str) -> None:
    """See that torch has a kind of device here.

    Raises:
        TargetError: it has none.
    """
    if device == "cuda":
        from diagc.runtime.cuda.torch_streams import current_index

        current_index()


def _moved(inputs: tuple[Any, ...], device: str) -> tuple[Any, ...]:
    import torch
    from torch.utils import _pytree as pytree

    moved: tuple[Any, ...] = pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), inputs)
    return moved


# Names of the option `library` in `diagc.compile`.
_LIBRARIES = {"auto": "torch", "none": "none"}


class Compiled(Protocol):
    """What comes out of a compilation, whatever went in."""

    def __call__(self, *inputs: Any) -> Any:
        """Run it."""

    def bind(self, *inputs: Any) -> "tuple[LoweredProgram, Sequence[torch.Tensor]]":
        """The lowered program for such inputs, and its own inputs."""

    def explain(self, format: str = "text") -> str:
        """Say what was fused and why; `format` is `text`, `json` or `html`."""


@dataclass(frozen=True)
class Program(ABC):
    """Something to compile."""

    name: str
    make_inputs: Callable[[], tuple[Any, ...]]

    @cached_property
    def inputs(self) -> tuple[Any, ...]:
        """Arguments; made when they are asked for, as most commands do without."""
        return self.make_inputs()

    def on(self, device: str) -> Self:
        """The program with its inputs, and what it holds, on a kind of device."""
        if device == "cpu":
            return self
        return replace(self, make_inputs=partial(_moved, self.inputs, device))

    @abstractmethod
    def compile(self, options: CompileOptions) -> Compiled:
        """Compile for the target of the options."""

    @abstractmethod
    def emit(self, stage: str, options: CompileOptions) -> str:
        """Give the IR of a stage of the pipeline.

        Raises:
            UserError: no such stage.
        """

    @abstractmethod
    def source(self, options: CompileOptions) -> str:
        """Give the IR as the front end made it."""


@dataclass(frozen=True)
class TorchProgram(Program):
    """A function on tensors, or a torch Module."""

    function: Callable[..., Any]

    def on(self, device: str) -> Self:
        """The program on a kind of device; a Module is moved in place."""
        moved = super().on(device)
        move = getattr(self.function, "to", None)
        if moved is not self and move is not None:
            move(device)
        return moved

    def compile(self, options: CompileOptions, dynamic: bool | None = None) -> "CompiledFunction":
        """Compile through the torch front end; `dynamic` as in `diagc.compile`."""
        values = {name: getattr(options, name) for name in option_names()}
        values["library"] = _LIBRARIES[options.library]
        return diagc.compile(self.function, *self.inputs, dynamic=dynamic, **values)

    def emit(self, stage: str, options: CompileOptions) -> str:
        """Give the IR of a stage of the pipeline."""
        return self.compile(options).emit(stage)

    def source(self, options: CompileOptions) -> str:
        """Give the IR as the front end made it."""
        return self.imported(options).source_ir

    def imported(self, options: CompileOptions, dynamic: bool | None = None) -> "CompiledFunction":
        """The program as the front end made it, and without code for kernels."""
        return self.compile(replace(options, target="interp"), dynamic)


@dataclass(frozen=True)
class DiagramProgram(Program):
    """A diagram; `make_module` parses it anew, because compiling changes the module."""

    make_module: Callable[[], ir.Module]

    def compile(self, options: CompileOptions) -> "CompiledDiagram":
        """Compile the diagram."""
        from diagc.compiler import compile_module

        lowered = compile_module(self.make_module(), options.target, options, name=self.name)
        return CompiledDiagram(lowered, self.source(options), options)

    def emit(self, stage: str, options: CompileOptions) -> str:
        """Give the IR of a stage of the pipeline, or of its target."""
        from diagc.compiler import emit

        return emit(self.source(options), stage, options)

    def source(self, options: CompileOptions) -> str:
        """Give the IR as the front end made it."""
        return str(self.make_module().operation.get_asm(enable_debug_info=True))

    def reference(self) -> Sequence[Any]:
        """Evaluate in float64, by the meaning of every op."""
        from diagc.compiler import compile_module

        program = compile_module(self.make_module(), "interp", name=self.name)
        wide = [t.double() if t.is_floating_point() else t for t in self.inputs]
        return program.run([tensor.cpu().numpy() for tensor in wide])  # numpy has no bf16


@dataclass(frozen=True)
class CompiledDiagram:
    """A lowered diagram behind the interface of a compiled function."""

    program: "LoweredProgram"
    source_ir: str
    options: CompileOptions

    def __call__(self, *inputs: Any) -> Any:
        """Run on tensors; gives the list of results."""
        return self.program(inputs)

    def bind(self, *inputs: Any) -> "tuple[LoweredProgram, Sequence[torch.Tensor]]":
        """The lowered program, and its inputs."""
        return self.program, inputs

    def explain(self, format: str = "text") -> str:
        """Say what was fused and why; `format` is `text`, `json` or `html`."""
        from diagc.explain_page import explain

        assert self.program.report is not None
        return explain(self.program.report, self.source_ir, self.options, format)
