"""From a function and one of its calls to a specialization: import, compile, bind."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diagc.compiler import compile_module, find_entry
from diagc.context import make_context
from diagc.crash import reproducible
from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.mlir import ir
from diagc.options import CompileOptions

if TYPE_CHECKING:
    from diagc.frontend.torch.importer import ImportedProgram
    from diagc.runtime.arguments import Arguments
    from diagc.runtime.build import OpenDims
    from diagc.runtime.captured import CapturedTensor
    from diagc.runtime.program import Program
    from diagc.runtime.specialization import Specialization

__all__ = ["TorchBuild"]

MOST_FIXED = 4
"""Sets of feature sizes that get programs of their own."""


@dataclass(frozen=True)
class TorchBuild:
    """Compiles a torch function for the kinds of calls that turn up.

    Args:
        function: the user's.
        name: for explain().
        options: of the compiler.
        importer: "fx", or "torch-mlir" to go through the raw torch dialect.
    """

    function: Callable[..., Any]
    name: str
    options: CompileOptions
    importer: str = "fx"
    _fixed: set[Any] = field(default_factory=set, compare=False)

    def __call__(
        self, arguments: "Arguments", tensors: Sequence[Any], dynamic: "OpenDims"
    ) -> "Specialization":
        """Import and compile; see `diagc.runtime.build.Build`.

        Raises:
            UserError: the function fails on the examples.
            UnsupportedError: it cannot be imported, or sizes that must be equal stay open.
        """
        from diagc.feature_sizes import seen_sizes
        from diagc.frontend.torch.row_ops import check_rows
        from diagc.host_program.shards import sharded_axes
        from diagc.runtime.specialization import ProgramResult, Specialization

        imported = self._import_open(arguments, tensors, dynamic)
        seen: Sequence[str] = ()
        if self.options.batch_invariant:
            check_rows(imported.externs, imported.module)
            # a pass opens sizes with which the function may have computed
            seen = seen_sizes(imported, [tuple(tensor.shape) for tensor in tensors])
        source = str(imported.module.operation.get_asm(enable_debug_info=True))
        entry = find_entry(imported.module)
        axes = sharded_axes(entry)
        unused = _unused(entry)
        program = compile_module(
            imported.module,
            self.options.target,
            self.options,
            externs={symbol: extern.call for symbol, extern in imported.externs.items()},
            name=self.name,
        )
        return Specialization(
            program,
            tuple(self._source(parameter) for parameter in imported.parameters),
            tuple(
                ProgramResult(leaf.index) if hasattr(leaf, "index") else leaf.value
                for leaf in imported.outputs.leaves
            ),
            imported.outputs.spec,
            tuple(tuple(tensor.shape) for tensor in tensors),
            source,
            dynamic=bool(dynamic),
            conditions=(*imported.conditions, *seen),
            random=any(extern.is_random for extern in imported.externs.values()),
            unused=unused,
            axes=axes,
        )

    def saving(self, specialization: "Specialization") -> "Program | None":
        """Compile the imported module to give what gradients take; see `Specialization.saving`."""
        if specialization.program.externs:  # no program of gradients either
            return None
        plain = specialization.program
        program = self._compile_again(specialization, replace(self.options, saves=True), self.name)
        more = len(program.outputs) > len(plain.outputs)
        as_good = _streams(program) >= _streams(plain) and not program.report.fall_back
        return program if more and as_good else None

    def gradients(
        self,
        arguments: "Arguments",
        specialization: "Specialization",
        wanted: Sequence[int],
        saved: bool,
    ) -> "Program":
        """Differentiate the imported module, and compile; see `diagc.runtime.build.Build`.

        Raises:
            UnsupportedError: an op has no derivative, a kernel is not code of the target, or the
                function has other gradients than the diagram.
            PassError: names of arguments that are not unique.
        """
        self._check_gradients(arguments, specialization, wanted)
        names = tuple(specialization.program.inputs[number].name for number in wanted)
        options = replace(self.options, wrt=names, saves=saved)
        program = self._compile_again(specialization, options, f"gradients of {self.name}")
        if program.report.fall_back:
            reasons = (kernel.fall_back for kernel in program.report.kernels if kernel.fall_back)
            raise UnsupportedError("a kernel of the gradients", reason=next(reasons))
        return program

    def _compile_again(
        self, specialization: "Specialization", options: CompileOptions, name: str
    ) -> "Program":
        with make_context(), ir.Location.unknown():
            return compile_module(
                ir.Module.parse(specialization.source_ir),
                options.target,
                options,
                externs=specialization.program.externs,
                name=name,
            )

    def _check_gradients(
        self, arguments: "Arguments", specialization: "Specialization", wanted: Sequence[int]
    ) -> None:
        """See that autograd neither cuts nor replaces what flows to the wanted inputs.

        Raises:
            UnsupportedError: it does, or that cannot be seen.
        """
        from diagc.frontend.torch.gradient_stops import gradient_stops

        if self._owners.has_hooks():
            raise UnsupportedError("a module", reason="hooks change its gradients")
        examples = specialization.example_tensors()
        sources = [_identity(specialization.sources[number]) for number in wanted]
        for entry, place in gradient_stops(self._callable(arguments), examples):
            if entry.user_index is None:
                found = self._owners.find(entry.tensor).identity
            else:
                found = entry.user_index
            if found in sources:
                reason = f"detach, no_grad or an autograd.Function stands behind '{entry.name}'"
                raise UnsupportedError("a gradient", reason=reason, location=place)

    def _import_open(
        self, arguments: "Arguments", tensors: Sequence[Any], dynamic: "OpenDims"
    ) -> "ImportedProgram":
        """Import with open sizes, but for features of attention: they are fixed, so it streams.

        A function whose features change at every call keeps them open after some programs.
        """
        from diagc.runtime.arguments import dynamic_shapes

        is_module = self._is_module(arguments)
        if not dynamic:
            return self._import(arguments, tensors, dynamic_shapes(dynamic, is_module))
        every = [frozenset(range(tensor.dim())) for tensor in tensors]
        open_dims = every if isinstance(dynamic, bool) else list(dynamic)
        try:
            imported = self._import(arguments, tensors, dynamic_shapes(dynamic, is_module))
        except UnsupportedError:
            # a power of the number of features, say: where these are usually, they stay fixed
            rest = [dims - {t.dim() - 1} for dims, t in zip(open_dims, tensors, strict=True)]
            if rest == open_dims or not any(rest):
                raise
            return self._import(arguments, tensors, dynamic_shapes(rest, is_module))
        if len(self._fixed) >= MOST_FIXED:
            return imported
        from diagc.feature_sizes import without_features

        rest = without_features(imported, open_dims)
        if rest == open_dims:
            return imported
        closed = [tuple(sorted(a - b)) for a, b in zip(open_dims, rest, strict=True)]
        shapes = [tensor.shape for tensor in tensors]
        self._fixed.add(
            tuple((dims, *(s[d] for d in dims)) for s, dims in zip(shapes, closed, strict=True))
        )
        return self._import(arguments, tensors, dynamic_shapes(rest, is_module))

    def _import(
        self, arguments: "Arguments", tensors: Sequence[Any], dynamic: Any
    ) -> "ImportedProgram":
        from diagc.frontend.torch.extern import check_signed
        from diagc.frontend.torch.importer import import_torch

        for number, tensor in enumerate(tensors):
            check_signed(tensor.dtype, f"argument {number}", None)
        call = {"call.txt": f"{self.name}\n{arguments}\n"}
        with _quiet_torch(), reproducible(call):
            return import_torch(
                self._callable(arguments), tuple(tensors), adapter=self.importer, dynamic=dynamic
            )

    def _is_module(self, arguments: "Arguments") -> bool:
        return arguments.plain and hasattr(self.function, "named_parameters")

    def _callable(self, arguments: "Arguments") -> Callable[..., Any]:
        """A function of tensors alone; constants and keyword arguments are bound."""
        if arguments.plain:
            return self.function
        function = self.function

        def call(*tensors: Any) -> Any:
            args, kwargs = arguments.rebuild(tensors)
            return function(*args, **kwargs)

        call.__name__ = self.name  # for messages
        return call

    def _source(self, parameter: Any) -> "int | CapturedTensor":
        if hasattr(parameter, "index"):
            return int(parameter.index)
        if parameter.tensor.is_meta:
            reason = "a tensor is read in a way that tracing does not follow, such as .data"
            raise UnsupportedError("access to a tensor", reason=reason, remedy="use .detach()")
        return self._owners.find(parameter.tensor)

    @cached_property
    def _owners(self) -> Any:
        from diagc.runtime.captured import Owners

        return Owners(self.function)


def _unused(entry: ir.Operation) -> frozenset[int]:
    """Numbers of the arguments that nothing reads."""
    arguments = diag.function_body(entry).arguments
    return frozenset(i for i, value in enumerate(arguments) if not any(True for _ in value.uses))


def _streams(program: "Program") -> int:
    return sum(len(kernel.streams) for kernel in program.report.kernels)


def _identity(source: "int | CapturedTensor") -> object:
    return source if isinstance(source, int) else source.identity


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Hide what torch.export logs, which the error says too, and its warnings about itself."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
