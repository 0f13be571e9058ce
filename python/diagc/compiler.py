"""The whole compiler as one list: named stages from a diagram to loaded kernels and a program.

Everything that is done to a module stands in `diagc.stages`, in order; a target then lowers each
kernel, and what is left of the entry function becomes the steps of a `Program`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from diagc import program_cache
from diagc.context import make_context
from diagc.crash import reproducible
from diagc.debug import logger
from diagc.dialects import diag
from diagc.errors import LoweringError, TargetError, UnsupportedError, UserError
from diagc.host_program import translate_entry
from diagc.mlir import ir
from diagc.options import CompileOptions, current, use
from diagc.passes.instrumentation import print_op
from diagc.passes.pipeline import Pipeline
from diagc.passes.verification import verify_module
from diagc.program_cache import StoredProgram
from diagc.report.collect import CompiledKernel, program_report
from diagc.report.data import SWITCHED_OFF
from diagc.runtime.steps import HostProgram
from diagc.stages import DIAG_STAGES, PASS_OPTIONS, pipeline_text, stage_names
from diagc.targets import Target, get_target

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = [
    "FORMED",
    "build_from_kernels",
    "compile_module",
    "emit",
    "find_entry",
    "run_pipeline",
]

Externs: TypeAlias = Mapping[str, Callable[..., Any]]


# ---- the pipeline ------------------------------------------------------------------------------


def run_pipeline(
    module: ir.Module,
    options: CompileOptions | None = None,
    last: str = DIAG_STAGES[-1].name,
    after: str | None = None,
) -> None:
    """Take a module to a stage, in place; from the start, or from the stage `after`.

    Raises:
        UserError: no such stage, or the module does not verify.
        DiagcError: a pass failed; carries a location.
    """
    options = options or current()
    with module.context:
        Pipeline(pipeline_text(options, last, after), options).run(module)


def emit(source: str, stage: str, options: CompileOptions | None = None) -> str:
    """The text of a diag module at a stage of `stage_names`, or at one of its target's.

    Stages of a target are shown kernel by kernel.

    Raises:
        UserError: no such stage.
    """
    options = options or current()
    target = get_target(options.target)
    options = replace(options, target=target.spec)
    known = (*stage_names(), *CODE_STAGES.get(target.name, ()))
    if stage not in known:
        raise UserError("no such stage", expected=", ".join(known), found=f"'{stage}'")
    with make_context(), use(options), ir.Location.unknown():
        module = ir.Module.parse(source)
        if stage in stage_names():
            run_pipeline(module, options, stage)
            return print_op(module.operation)
        run_pipeline(module, options)
        kernels = [op for op in diag.functions(module) if diag.is_kernel(op)]
        return "\n".join(_code_at(kernel, target, stage, options) for kernel in kernels)


CODE_STAGES = {
    "cpu": ("vector", "llvm", "llvmir", "asm"),
    "nvptx": ("gpu", "nvvm", "llvmir", "ptx", "sass"),
}
"""Stages of the code of a kernel, by target."""


def _code_at(kernel: ir.Operation, target: Target, wanted: str, options: CompileOptions) -> str:
    texts: list[str] = []

    def observe(stage: str, make: Callable[[], str | bytes]) -> None:
        if stage == wanted:
            texts.append(str(make()))

    target.load().lower_kernel(kernel, options, observe)
    return "".join(texts)


# ---- from kernels to a program -----------------------------------------------------------------


def find_entry(module: ir.Module) -> ir.Operation:
    """The one public function that has a body and is no kernel.

    Raises:
        UserError: there is none, or several.
    """
    found = [op for op in diag.functions(module) if _is_entry(op)]
    if len(found) != 1:
        names = ", ".join(diag.symbol_of(op) for op in found) or "none"
        raise UserError("a module needs one public function", expected="one", found=names)
    return found[0]


def _is_entry(function: ir.Operation) -> bool:
    visibility = function.attributes.get("sym_visibility")
    public = visibility is None or ir.StringAttr(visibility).value == "public"
    return public and bool(len(function.regions[0].blocks)) and not diag.is_kernel(function)


def compile_module(
    module: ir.Module,
    target: str = "cpu",
    options: CompileOptions | None = None,
    *,
    externs: Externs | None = None,
    name: str | None = None,
) -> "Program":
    """Compile a module of diag IR with one public function.

    Args:
        module: verified diag IR; it is lowered in place, to the stage `general`.
        target: name of a target, or "auto".
        options: default: those in force.
        externs: the host's callables on tensors, by the symbols of the module's externs.
        name: of the program, for explain().

    Returns:
        A program that runs on torch tensors; its `report` says what was done.

    Raises:
        TargetError: no such target on this machine.
        DiagcError: a pass failed.
        InternalError: a bug of ours; a reproducer with the module was written.
    """
    chosen = get_target(target)
    options = replace(options or current(), target=chosen.spec)
    if options.batch_invariant and chosen.name == "nvptx":
        reason = "it splits streams by the number of blocks"
        raise TargetError(f"target nvptx is not batch-invariant: {reason}", expected="target cpu")
    key = _program_key(module, chosen, options)
    stored = program_cache.read(key) if key else None
    if stored is not None:
        program = _load(stored, externs or {}, chosen, name)
        if program is not None:
            return program
    source = str(module.operation.get_asm(enable_debug_info=True))
    with reproducible({"module.mlir": source, "options.txt": f"{chosen.name}\n{options}\n"}):
        return _compile(module, chosen, options, externs or {}, name, key)


def _program_key(module: ir.Module, target: Target, options: CompileOptions) -> str | None:
    """Key of the program in the cache; None where every pass is to be run."""
    wants_passes = options.validate or options.timing or options.dump_dir is not None
    prints = options.print_ir_before or options.print_ir_after
    text_key = getattr(target.load(), "text_key", None)
    if wants_passes or prints or text_key is None:
        return None
    # not `pipeline_text`, which imports all passes
    names = (*PASS_OPTIONS, "saves")
    passes = [*DIAG_STAGES, *((name, getattr(options, name)) for name in names)]
    passes += [
        ("autotune", options.autotune),
        ("off", options.kernels_off),
        target.describe(options.device),
        target.pass_options(),
    ]
    with use(options):
        found: str = text_key(program_cache.module_text(module, str(passes)))
    return found


def _load(
    stored: StoredProgram, externs: Externs, target: Target, name: str | None
) -> "Program | None":
    """A program from the cache, or None when one of its kernels is there no more."""
    from diagc.runtime.program import Program  # torch

    start = perf_counter()
    kernels = [target.load().load_kernel(key) for key in stored.kernels]
    if None in kernels:
        return None
    host, report = stored.host, stored.report
    program = Program(host.inputs, host.steps, host.outputs, kernels, externs, device=target.device)
    seconds = perf_counter() - start
    cached = [replace(k, cache="hit", seconds=seconds / len(kernels)) for k in report.kernels]
    program.report = replace(
        report, name=name or report.name, kernels=cached, seconds={"cache": seconds}
    )
    return program


def _compile(
    module: ir.Module,
    target: Target,
    options: CompileOptions,
    externs: Externs,
    name: str | None,
    key: str | None,
) -> "Program":
    clock = _Clock()
    with use(options), module.context, ir.Location.unknown():
        verify_module(module)
        name = name or diag.symbol_of(find_entry(module))
        if options.autotune:
            run_pipeline(module, options, FORMED)
            _tune(module, target, options, externs)
            clock.lap("autotune")
        run_pipeline(module, options, after=FORMED if options.autotune else None)
        clock.lap("passes")
        program, host = _link(module, target, options, externs, name, clock)
    program.report.seconds.update(clock.seconds)
    keys = tuple(kernel.key for kernel in program.kernels if hasattr(kernel, "key"))
    if key is not None and len(keys) == len(program.kernels):
        program_cache.write(key, StoredProgram(host, keys, program.report))
    return program


def _link(
    module: ir.Module,
    target: Target,
    options: CompileOptions,
    externs: Externs,
    name: str,
    clock: "_Clock",
) -> "tuple[Program, HostProgram]":
    """Lower the kernels of a module at the stage `general`, and make its entry a program."""
    from diagc.runtime.program import Program  # torch

    kernels = _lower_kernels(module, target, options)
    clock.lap("kernels")
    entry = find_entry(module)
    host = translate_entry(entry, {k.name: i for i, k in enumerate(kernels)})
    loaded = [compiled.kernel for compiled in kernels]
    interp = target.name == "interp"
    program = Program(host.inputs, host.steps, host.outputs, loaded, externs, interp, target.device)
    device = target.describe(options.device)
    program.report = program_report(module, entry, kernels, name, target.name, device)
    clock.lap("program")
    return program, host


FORMED = "kernels"
"""The stage whose kernels have no schedules yet."""


def _tune(module: ir.Module, target: Target, options: CompileOptions, externs: Externs) -> None:
    """Measure schedules, and give the kernels the fastest ones."""
    from diagc.autotune import Tuner

    code = target.load()
    build = build_from_kernels(target, options, externs)
    Tuner(build, code.text_key, code.choices(target.describe(options.device))).tune(module)


def build_from_kernels(
    target: Target, options: CompileOptions, externs: Externs
) -> "Callable[[ir.Module], Program]":
    """What compiles a module from the stage `FORMED` on; kernels keep schedules that they have."""

    def build(variant: ir.Module) -> "Program":
        run_pipeline(variant, options, after=FORMED)
        return _link(variant, target, options, externs, "variant", _Clock())[0]

    return build


class _Clock:
    """Seconds of each part of a compilation."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap was spent on `name`."""
        now = perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _lower_kernels(
    module: ir.Module, target: Target, options: CompileOptions
) -> list[CompiledKernel]:
    kernels = [op for op in diag.functions(module) if diag.is_kernel(op)]
    return [_lower_kernel(op, target, options) for op in kernels]


def _lower_kernel(
    function: ir.Operation, target: Target, options: CompileOptions
) -> CompiledKernel:
    """Lower and load one kernel; what the target cannot lower is interpreted, and reported."""
    start = perf_counter()
    name, fall_back = diag.symbol_of(function), None
    try:
        _refuse_off(name, options)
        kernel = target.load().lower_kernel(function, options)
    except (UnsupportedError, LoweringError) as error:
        fall_back = str(error)
        logger("compiler").warning("kernel '%s' is interpreted, slowly: %s", name, fall_back)
        kernel = get_target("interp").load().lower_kernel(function, options)
    known = kernel in _SEEN
    _SEEN.add(kernel)
    cache = "memory" if known else getattr(kernel, "cache", "none")
    return CompiledKernel(name, function, kernel, cache, perf_counter() - start, fall_back)


def _refuse_off(name: str, options: CompileOptions) -> None:
    for pattern in options.kernels_off:
        if fnmatchcase(name, pattern):
            raise LoweringError(f"{SWITCHED_OFF} ({pattern})")


# Kernels that programs of this process use.
_SEEN: "WeakSet[Any]" = WeakSet()
