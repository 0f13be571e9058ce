"""From a module of scf, vector, memref and arith operations to an object file in memory.

The stages, by the names that `--emit` uses:

    vector ──lower──▶ llvm ──translate──▶ llvmir ──LLVM──▶ object, asm

Everything down to `llvm` is upstream MLIR passes; the object comes from MLIR's ExecutionEngine,
which knows the host. `asm` is for reading only: llvmlite makes it from the LLVM IR text.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diagc.errors import LoweringError
from diagc.mlir import ir, llvm, passmanager
from diagc.runtime.cpu_features import ISA_LEVELS, CpuFeatures
from diagc.targets.cpu import codegen
from diagc.targets.llvm_text import to_llvmlite

__all__ = ["STAGES", "CompiledObject", "JitOptions", "Observer", "compile_module", "pipeline"]

STAGES = ("vector", "llvm", "llvmir", "object", "asm")

# Gets a stage's name and a function that makes its text (bytes for "object") if it is wanted.
Observer = Callable[[str, Callable[[], str | bytes]], None]

_EXPAND_BF16 = "arith-expand{include-bf16=true}"
_LOWERING = (
    # simplify while loops and vectors still have structure
    "canonicalize",
    "cse",
    "loop-invariant-code-motion",
    "canonicalize",
    "cse",
    # transfers and multi-dimensional vectors become loops, loops become branches
    "convert-vector-to-scf",
    "convert-scf-to-cf",
    "expand-strided-metadata",
    "lower-affine",
    # what LLVM has no intrinsic for (erf, cbrt) becomes calls of libm on scalars, so before vectors
    "convert-math-to-llvm",
    "convert-math-to-libm",
    # without the option a transpose becomes scalar extracts and inserts
    "convert-vector-to-llvm{vector-transpose-lowering=shuffle16x16}",
    "convert-index-to-llvm",
    "finalize-memref-to-llvm",
    "convert-arith-to-llvm",
    "convert-func-to-llvm",
    "convert-cf-to-llvm",
    "convert-ub-to-llvm",
    "canonicalize",
    "cse",
    "reconcile-unrealized-casts",
    "canonicalize",
    "cse",
)


@dataclass(frozen=True)
class JitOptions:
    """How to compile.

    Args:
        opt_level: LLVM's, 0 to 3; 1 to 3 gave the same speed of kernels.
        isolate: run LLVM in a process of its own, so that its aborts become errors.
        verify: verify the IR after every pass (costs about 25 of 85 ms).
    """

    opt_level: int = 2
    isolate: bool = False
    verify: bool = False


@dataclass(frozen=True)
class CompiledObject:
    """A relocatable object.

    Args:
        code: an ELF object file.
        symbols: the functions that it exports.
        seconds: time that each step took: "lower", "codegen".
    """

    code: bytes
    symbols: tuple[str, ...]
    seconds: Mapping[str, float]


def pipeline(features: CpuFeatures) -> str:
    """Text of the pass pipeline from `vector` to `llvm` on a CPU."""
    # LLVM rounds to bf16 by an instruction of AVX512-BF16, elsewhere by a libgcc function that most
    # machines lack; so the rounding is spelled out there
    expand = () if features.bf16_dot else (_EXPAND_BF16,)
    return f"builtin.module({','.join((*expand, *_LOWERING))})"


def compile_module(
    module: ir.Module,
    features: CpuFeatures,
    options: JitOptions | None = None,
    observe: Observer | None = None,
) -> CompiledObject:
    """Compile a module for a CPU; the module is lowered in place.

    Args:
        module: functions at the `vector` stage; those with external linkage are exported.
        features: what the CPU can do; a level that is not native limits the instructions.
        options: see `JitOptions`.
        observe: called once per stage, in the order of `STAGES`.

    Raises:
        LoweringError: an operation has no lowering, or LLVM refuses the result.
    """
    options = options or JitOptions()
    observe = observe or _ignore
    observe("vector", lambda: str(module))
    start = time.perf_counter()
    _lower(module, pipeline(features), options.verify)
    _limit_instructions(module, features)
    lowered = time.perf_counter()
    observe("llvm", lambda: str(module))
    observe("llvmir", lambda: llvm.translate_module_to_llvmir(module.operation))
    translated = time.perf_counter()
    code = _generate(module, options)
    seconds = {"lower": lowered - start, "codegen": time.perf_counter() - translated}
    observe("object", lambda: code)
    observe("asm", lambda: _assembly(module, features, options.opt_level))
    return CompiledObject(code, codegen.exported_symbols(module), seconds)


def _ignore(stage: str, make: Callable[[], str | bytes]) -> None:
    """Observe nothing."""


def _lower(module: ir.Module, passes: str, verify: bool) -> None:
    manager = passmanager.PassManager.parse(passes, module.context)
    manager.enable_verifier(verify)
    try:
        manager.run(module.operation)
    except ir.MLIRError as error:
        raise LoweringError(f"the kernel cannot be lowered to LLVM: {error}") from None


def _generate(module: ir.Module, options: JitOptions) -> bytes:
    generate = codegen.generate_isolated if options.isolate else codegen.generate
    try:
        code = generate(module, options.opt_level)
    except LoweringError as error:
        foreign = _foreign_operations(module)
        if not foreign:
            raise
        raise LoweringError(f"no lowering to LLVM for {', '.join(foreign)}") from error
    codegen.check_references(code)
    return code


def _foreign_operations(module: ir.Module) -> list[str]:
    """Names of operations that the passes have left; asked after a failure, it takes a walk."""
    names: set[str] = set()

    def visit(op: ir.Operation) -> ir.WalkResult:
        names.add(op.name)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return sorted(name for name in names if not name.startswith(("llvm.", "builtin.module")))


def _limit_instructions(module: ir.Module, features: CpuFeatures) -> None:
    """Say on every function what it may use, when that is less than the host has."""
    if features.llvm_cpu is None:
        return
    needs = sorted(ISA_LEVELS[features.isa].needs)
    with module.context:
        names = ", ".join(f'"+{flag}"' for flag in needs)
        allowed = ir.Attribute.parse(f"#llvm.target_features<[{names}]>")
        for op in module.body.operations:
            if op.operation.name == "llvm.func":
                op.operation.attributes["target_cpu"] = ir.StringAttr.get(features.llvm_cpu)
                op.operation.attributes["target_features"] = allowed


def _assembly(module: ir.Module, features: CpuFeatures, opt_level: int) -> str:
    """Assembly text, by llvmlite's LLVM: close to the object's code, not identical to it."""
    from llvmlite import binding  # 70 ms that only `--emit=asm` needs

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    text = to_llvmlite(llvm.translate_module_to_llvmir(module.operation))
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=features.llvm_cpu or binding.get_host_cpu_name(),
        features="" if features.llvm_cpu else binding.get_host_cpu_features().flatten(),
        opt=opt_level,
    )
    parsed = binding.parse_assembly(text)
    options = binding.create_pipeline_tuning_options(speed_level=opt_level)
    passes = binding.create_pass_builder(target, options)
    passes.getModulePassManager().run(parsed, passes)
    return str(target.emit_assembly(parsed))
