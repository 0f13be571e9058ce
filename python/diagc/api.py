"""`diagc.compile`: a Python function or nn.Module over torch tensors becomes fused kernels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diagc.errors import UserError
from diagc.options import CompileOptions, option_names, require_gpu_target

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from diagc.report.data import KernelReport, Report
    from diagc.runtime.first_call import FirstCallCheck
    from diagc.runtime.program import Program
    from diagc.runtime.specialization import Specialization
    from diagc.simulator import Report as SimulatorReport
    from diagc.simulator import SimulatorOptions
    from diagc.simulator.kernel import CompiledGpuKernel
    from diagc.viz import Drawing

__all__ = [
    "CompiledFunction",
    "KernelInfo",
    "chosen_target",
    "compile",
    "simulate",
    "with_torch_s_precision",
]


def compile(
    function: Callable[..., Any],
    *example_inputs: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    dynamic: bool | None = None,
    library: str = "torch",
    importer: str = "fx",
    check: str | None = None,
    name: str | None = None,
    **options: Any,
) -> "CompiledFunction":
    """Compile a function of tensors.

    The result is called like the function. It compiles again when a call differs from all before in
    constants or structure of its arguments; a size that changes between calls is kept open from
    then on. Weights of modules are read at every call, so they may be updated. Gradients come from
    kernels of a program of their own, which the first backward pass compiles; where there is none
    (`explain()` says why) the function itself is run again, in eager mode. So are second
    derivatives and forward mode.

    Args:
        function: a Python function or nn.Module over torch tensors, without side effects.
        example_inputs: positional arguments of one call; only shapes and dtypes matter. Without
            any, compilation waits for the first call.
        example_kwargs: keyword arguments of that call.
        dynamic: whether sizes are open: True for all, False for none, None for those that change.
        library: who computes lone matrix products: "torch", "none" for kernels of our own, "tiled"
            for kernels of our own where they make large tiles (on CPUs).
        importer: how the function is read: "fx", or "torch-mlir" through its raw torch dialect.
        check: "first-call" to compare the first call of every program with eager torch.
        name: by which exported graphs find the function in every process that compiles it under
            this name (docs/usage.md); letters, digits and `_.:-`.
        options: fields of `diagc.CompileOptions`, such as `target`, `reassociate`, `validate`.

    Raises:
        UserError: bad arguments, an unknown option, a function that fails on the examples, a name
            that another function has, a version of torch that is not supported.
        UnsupportedError: the function depends on values, or writes into its arguments.
        TargetError: no such target on this machine.
    """
    chosen = _options(options, library)
    compiled = CompiledFunction(function, chosen, dynamic, importer, check=check, name=name)
    if not isinstance(example_kwargs, Mapping | None):
        found = type(example_kwargs).__name__
        raise UserError("example_kwargs must be a dict", expected="names and values", found=found)
    if example_inputs or example_kwargs:
        compiled.prepare(*example_inputs, **(example_kwargs or {}))
    return compiled


def simulate(
    compiled: "CompiledFunction | CompiledGpuKernel",
    *arrays: Any,
    options: "SimulatorOptions | None" = None,
) -> "tuple[Any, SimulatorReport]":
    """Run kernels for a GPU on this machine's CPU, and check every access that they make.

    >>> attention = diagc.compile(my_attention, q, k, v, target="nvptx")    # doctest: +SKIP
    >>> out, report = diagc.simulate(attention, q, k, v)                    # doctest: +SKIP
    >>> print(report)                                                       # doctest: +SKIP

    Args:
        compiled: what `diagc.compile` gave for the target nvptx, or one of its kernels.
        arrays: CPU tensors: those of a call, or one for each argument of the kernel.
        options: how to simulate; by default with all checks.

    Returns:
        what the function returns (of a kernel a list of results), and the report.

    Raises:
        UserError: it was compiled for another target.
        LaunchError: tensors that do not fit, or are not on the CPU.
        UnsupportedError: an instruction that the simulator has no model of.
        TargetError: there is no C++ compiler for the simulator's run time.
    """
    if isinstance(compiled, CompiledFunction):
        return compiled.simulate(*arrays, options=options)
    from diagc.simulator import simulate_kernel

    if not hasattr(compiled, "llvm_text"):
        expected = "a function that is compiled for the target nvptx, or a kernel of it"
        found = type(compiled).__name__
        raise UserError("nothing to simulate", expected=expected, found=found)
    return simulate_kernel(compiled, *arrays, options=options)


_LIBRARIES = {"torch": "auto", "none": "none", "tiled": "tiled"}


def _options(values: Mapping[str, Any], library: str) -> CompileOptions:
    known = option_names()
    for name in values:
        if name not in known:
            expected = ", ".join(sorted([*known, "dynamic"]))
            raise UserError("unknown compile option", expected=expected, found=name)
    if library not in _LIBRARIES:
        raise UserError("unknown library", expected="torch, tiled or none", found=library)
    options = replace(with_torch_s_precision(values), library=_LIBRARIES[library])
    return replace(options, target=chosen_target(options))


def with_torch_s_precision(values: Mapping[str, Any]) -> CompileOptions:
    """Options with these values; products of f32 are as exact as torch's, unless that is given.

    Raises:
        UserError: a version of torch that is not supported, or a value that an option has not.
    """
    from diagc.runtime.torch_settings import matmul_precision, require_torch

    require_torch()
    return CompileOptions(**{"float32_matmul_precision": matmul_precision(), **values})


def chosen_target(options: CompileOptions) -> str:
    """The target that was asked for, by name or by the device that costs are told for."""
    if not options.device:
        return options.target
    from diagc.targets import target_for

    return target_for(options.target, options.device)


CHECKS = (None, "first-call")


def _check(check: str | None, name: str, calls: Sequence[str]) -> "FirstCallCheck | None":
    if check not in CHECKS:
        raise UserError("unknown check", expected="None or 'first-call'", found=repr(check))
    if check is None:
        return None
    from diagc.runtime.first_call import FirstCallCheck

    return FirstCallCheck(name, tuple(calls))


@dataclass(frozen=True)
class KernelInfo:
    """One kernel of a compiled function.

    Args:
        name: its symbol.
        streams: lines of the laws of its streams.
        target: what it was compiled for.
        cache: "hit", "miss", "memory" or "none".
        schedule: as chosen.
        seconds: time to compile or load it.
    """

    name: str
    streams: tuple[str, ...]
    target: str
    cache: str
    schedule: Mapping[str, Any]
    seconds: float

    @classmethod
    def of(cls, report: "KernelReport") -> "KernelInfo":
        """Take it from a report."""
        lines = tuple(
            line
            for stream in report.streams
            for line in (stream.law or (f"stream along {stream.axis}",))
        )
        return cls(report.name, lines, report.target, report.cache, report.schedule, report.seconds)


class CompiledFunction:
    """What `diagc.compile` gives: called like the function, and can be asked what was made of it.

    What it tells is about the program that was compiled or used last.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: CompileOptions,
        dynamic: bool | None,
        importer: str,
        key: str | None = None,
        check: str | None = None,
        calls: Sequence[str] = (),
        name: str | None = None,
        origin: str = "",
    ) -> None:
        """Check the function; nothing is compiled yet.

        `key` says exactly what the function computes, for graphs with calls of it that are cached
        on disk; None makes a unique one. `calls` says what it stands for, when `check` complains.
        `name` is that of `compile`, and `origin` tells that a copy may have it, too.
        """
        from diagc.runtime.torch_settings import require_torch

        require_torch()
        from diagc.runtime.calls import Calls
        from diagc.runtime.named import origin_of
        from diagc.torch_build import TorchBuild

        if not callable(function):
            raise UserError(
                "nothing to compile",
                expected="a function or nn.Module",
                found=type(function).__name__,
            )
        if name is not None:
            origin = origin or origin_of(function)
        self._settings = (options, dynamic, importer, key, check, tuple(calls), name, origin)
        self.options = options
        self.function = function
        """What was compiled."""
        self.key = key
        """What graphs call it by, if it was given."""
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        build = TorchBuild(function, self.__name__, options, importer)
        judge = _check(check, key or self.__name__, calls)
        self._calls = Calls(
            function, build, self.__name__, dynamic, key, judge, public=name, origin=origin
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledFunction":
        """Compiled anew when it is called: a copied module has weights of its own."""
        return CompiledFunction(deepcopy(self.function, memo), *self._settings)

    def __copy__(self) -> "CompiledFunction":
        """Of the same function; compiled anew when it is called."""
        return CompiledFunction(self.function, *self._settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles hold the function, which has to be importable, and the options."""
        return CompiledFunction, (self.function, *self._settings)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run; compiles first when no program fits.

        Raises:
            MismatchError: the call is checked, and differs from eager torch.
            LaunchError: a wrong number, rank, dtype or device of tensors.
        """
        return self._calls(args, kwargs)

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Compile for calls like this one, without running anything."""
        self._calls.prepare(args, kwargs)

    def prepare_like(self, tensors: "Sequence[torch.Tensor]") -> None:
        """Compile for fake tensors, as tracers have them; symbolic sizes stay open."""
        self._calls.prepare_like(tensors)

    def prepare_saving(self) -> bool:
        """Whether graphs may call the latest program by the op `diagc::call_saving`; compiles."""
        return self._calls.prepare_saving()

    def simulate(
        self, *args: Any, options: "SimulatorOptions | None" = None, **kwargs: Any
    ) -> "tuple[Any, SimulatorReport]":
        """Run on CPU tensors, with kernels for a GPU in the simulator; see `diagc.simulate`."""
        from diagc.simulator.program import program_report, simulated_program

        require_gpu_target(self.options)
        group, tensors = self._calls.group(args, kwargs)
        specialization = group.example(tensors)
        program = simulated_program(specialization.program, options)
        results = program(specialization.inputs(tensors))
        return specialization.value(results), program_report(program)

    def bind(self, *args: Any, **kwargs: Any) -> "tuple[Program, Sequence[torch.Tensor]]":
        """The program for calls like this one, and its inputs; nothing is run."""
        group, tensors = self._calls.group(args, kwargs)
        specialization = group.example(tensors)
        return specialization.program, specialization.inputs(tensors)

    # ---- what was made -----------------------------------------------------------------------

    @property
    def program(self) -> "Program":
        """The program that was compiled or used last."""
        return self.latest.program

    @property
    def report(self) -> "Report":
        """What the compiler did, as data."""
        from diagc.report.data import GradientReport, Note

        current = self.latest
        inputs = current.program.inputs
        gradients = [
            GradientReport(
                tuple(inputs[number].name for number in wanted),
                made.program.report if made.program else None,
                made.reason,
            )
            for (wanted, _), made in current.backward.items()
        ]
        report = current.program.report
        declined = list(report.declined)
        if current.fixed_because:
            text = f"they stay fixed, for they cannot be open: {current.fixed_because}"
            declined.append(Note("open sizes", text))
        return replace(report, declined=declined, gradients=gradients)

    @property
    def source_ir(self) -> str:
        """The diag module as it was imported."""
        return self.latest.source_ir

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """The kernels, in the order of their first calls."""
        return tuple(KernelInfo.of(kernel) for kernel in self.report.kernels)

    @property
    def outside(self) -> tuple[str, ...]:
        """Names of the operations that torch runs."""
        return tuple(item.what for item in self.report.outside)

    def explain(self, format: str = "text") -> str:
        """Say what was fused and why, by which law, and what stays outside.

        Args:
            format: "text", "json", or "html" for one page that needs no other file.

        Raises:
            UserError: another format.
        """
        from diagc.explain_page import explain

        return explain(self.report, self.source_ir, self.options, format)

    def draw(
        self,
        path: "str | Path | None" = None,
        *,
        after: str | None = None,
        before: str | None = None,
        width: float | None = None,
    ) -> "Drawing":
        """Draw the program as a neural circuit diagram; notebooks show the result.

        Args:
            path: a file to write, too: `.svg`, `.png` or `.pdf`.
            after: name of a pass or stage, behind which the program is drawn; without this and
                `before`: as it was written.
            before: likewise, before a pass or stage.
            width: in px, at which the diagram wraps.

        Raises:
            UserError: no such pass or stage, an unknown suffix, a file that cannot be written.
        """
        from diagc.drawings import draw

        options = self.options
        return draw(self.source_ir, self.__name__, options, after, before, width=width, path=path)

    def _repr_svg_(self) -> str | None:
        """The diagram, for notebooks; nothing before the first call."""
        return None if self._calls.latest is None else self.draw().svg()

    def emit(self, stage: str) -> str:
        """The program as it is after a stage of the compiler.

        Raises:
            UserError: no such stage.
        """
        from diagc.compiler import emit

        return emit(self.source_ir, stage, self.options)

    def save(self, path: "str | Path", *, with_weights: bool = False, variants: int = 1) -> None:
        """Write the program that was compiled or used last as a package.

        `diagc.runtime.load` runs it where there is no compiler. Parameters and buffers that
        `state_dict()` has are given to `load` by name, unless they go into the package; whatever
        else the function reads goes in.

        Args:
            path: of the file, `attention.diagpkg`.
            with_weights: whether parameters go in, too.
            variants: how many programs go in at most; with several, `load` chooses by shape among
                tiles, warpgroups and orders of products (docs/packages.md). For GPUs only.

        Raises:
            UserError: variants for another target, or less than one.
            UnsupportedError: something of the program has no code, or cannot be stored.
            PackageError: the file cannot be written.
        """
        from diagc import __version__
        from diagc.runtime.package.writer import of_specialization, save
        from diagc.targets import get_target

        current = self.latest
        group = next(g for g in self._calls.groups if current in g.specializations)
        names: Iterable[str] = (
            () if with_weights else getattr(self._calls.function, "state_dict", dict)()
        )
        contents = of_specialization(group.arguments, current)
        if variants != 1:
            from diagc.variants import with_variants

            shapes = [
                current.shapes[s] if isinstance(s, int) else s.shape for s in contents.sources
            ]
            contents = with_variants(contents, shapes, current.source_ir, self.options, variants)
        save(
            path,
            contents,
            target=get_target(self.options.target).spec,
            version=__version__,
            outside=frozenset(names),
        )

    @property
    def latest(self) -> "Specialization":
        """The program that was compiled or used last, and where its inputs come from.

        Raises:
            UserError: nothing has been compiled yet.
        """
        if self._calls.latest is not None:
            return self._calls.latest
        raise UserError(
            f"{self.__name__} has not been compiled yet",
            remedy="give diagc.compile example inputs, or call the function",
        )
