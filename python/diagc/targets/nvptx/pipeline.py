"""From a `gpu.module` of upstream operations to PTX and a cubin, stage by stage.

    gpu ──upstream passes──▶ nvvm ──translate, respell──▶ llvmir ──LLVM──▶ ptx ──ptxas──▶ sass

`gpu` is a module that holds one `gpu.module` with its architecture as `#nvvm.target<chip = ...>`:
scf, arith (indices in i32), vector (one dimension), math and nvvm operations on `!llvm.ptr<1>` and
`!llvm.ptr<3>`. Dynamic shared memory is the global `SHARED_MEMORY` of the gpu.module. `nvvm` is the
same in the llvm and nvvm dialects.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import islice

from diagc.context import make_context
from diagc.errors import LoweringError
from diagc.mlir import ir, llvm, passmanager
from diagc.passes.cloning import nested_ops
from diagc.targets.nvptx.arch import GpuArch, parse_arch
from diagc.targets.nvptx.codegen import to_ptx
from diagc.targets.nvptx.nvvm_text import to_nvptx_llvm
from diagc.targets.nvptx.ptxas import Resources, assemble, disassemble

__all__ = [
    "BY_VALUE",
    "LOWERING",
    "SHARED_MEMORY",
    "STAGES",
    "CompiledModule",
    "NvvmModule",
    "Observer",
    "attach_arch",
    "compile_module",
    "empty_module",
    "gpu_module_of",
    "lower_to_nvvm",
    "module_arch",
    "module_llvm",
    "module_ptx",
    "translate",
]

STAGES = ("gpu", "nvvm", "llvmir", "ptx", "sass")

SHARED_MEMORY = (
    "llvm.mlir.global external @shared() "
    "{addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>"
)
"""Declaration of dynamic shared memory; external, as LLVM 22 prints an internal one with a size."""

BY_VALUE = "diag.by_value"
"""Attribute of a gpu.func: numbers of the parameters that are tensor maps, passed by value."""

_TENSOR_MAP = "{llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 : i64, nvvm.grid_constant}"

# Gets a stage's name and a function that makes its text.
Observer = Callable[[str, Callable[[], str]], None]

LOWERING = (
    "cse",  # first: a third of the operations go
    "canonicalize{region-simplify=disabled}",
    "convert-scf-to-cf",
    # natural alignment of vectors: one store of 16 bytes instead of eight of 2
    "convert-vector-to-llvm{use-vector-alignment=1}",
    # before convert-gpu-to-nvvm, which would make calls of libdevice of fma and max
    "convert-arith-to-llvm",
    "convert-math-to-llvm",
    "convert-ub-to-llvm",
    "convert-gpu-to-nvvm{use-bare-ptr-memref-call-conv=1}",
    "convert-nvvm-to-llvm",
    "reconcile-unrealized-casts",
    "cse",
)
"""Upstream passes from `gpu` to `nvvm`, run on the gpu.module."""

_TRANSLATED = frozenset({"llvm", "nvvm"})
"""Dialects of stage `nvvm`."""

# locations are translated only inside of functions that have debug information
_WITH_LOCATIONS = (
    "builtin.module(ensure-debug-info-scope-on-llvm-func{emission-kind=LineTablesOnly})"
)


@dataclass(frozen=True)
class NvvmModule:
    """A module before its translation to LLVM IR, kept so that texts are made when asked for.

    A kernel's texts take 0.1 s to write, its bytecode 4 ms.

    Args:
        bytecode: MLIR's, with locations.
    """

    bytecode: bytes

    @cached_property
    def nvvm_text(self) -> str:
        """In MLIR's syntax."""
        with make_context():
            return str(ir.Module.parse(self.bytecode))

    @cached_property
    def llvm_text(self) -> str:
        """LLVM IR with locations, as llvmlite's LLVM and the simulator read it."""
        with make_context():
            return translate(ir.Module.parse(self.bytecode), locations=True)


@dataclass(frozen=True)
class CompiledModule:
    """A module for one architecture.

    Args:
        nvvm: the module before translation to LLVM IR.
        ptx: its assembly.
        cubin: None where there is no ptxas.
        resources: of each function by name; empty where there is no ptxas.
        seconds: time of each step: "lower", "translate", "codegen", "assemble".
    """

    nvvm: NvvmModule
    ptx: str
    cubin: bytes | None
    resources: Mapping[str, Resources]
    seconds: Mapping[str, float]


def gpu_module_of(module: ir.Module) -> ir.Operation:
    """The one gpu.module of a module.

    Raises:
        LoweringError: there is none, or there are several.
    """
    found = [op.operation for op in module.body.operations if op.operation.name == "gpu.module"]
    if len(found) != 1:
        raise LoweringError("a module needs one gpu.module", expected=1, found=len(found))
    return found[0]


def empty_module() -> ir.Module:
    """A module with a gpu.module that declares shared memory; needs an ambient context."""
    holder = f"gpu.module @kernels {{ {SHARED_MEMORY} }}"
    return ir.Module.parse(f"module attributes {{gpu.container_module}} {{ {holder} }}")


def attach_arch(module: ir.Module, arch: GpuArch) -> None:
    """Say on the gpu.module what it is compiled for."""
    text = f'[#nvvm.target<chip = "{arch.name}", features = "{arch.features}">]'
    gpu_module_of(module).attributes["targets"] = ir.Attribute.parse(text, module.context)


def module_arch(module: ir.Module) -> GpuArch:
    """What a module is compiled for, as its gpu.module says; the default where it says nothing.

    Raises:
        TargetError: no code is made for it.
        LoweringError: there is not one gpu.module.
    """
    attributes = gpu_module_of(module).attributes
    text = str(attributes["targets"]) if "targets" in attributes else ""
    _, found, rest = text.partition('chip = "')
    return parse_arch(rest.split('"')[0] if found else "")


def lower_to_nvvm(module: ir.Module, *, verify: bool = False) -> None:
    """Take a module from stage `gpu` to `nvvm`, in place.

    Raises:
        LoweringError: an operation has no lowering.
    """
    text = f"builtin.module(gpu.module({','.join(LOWERING)}))"
    manager = passmanager.PassManager.parse(text, module.context)
    manager.enable_verifier(verify)
    try:
        manager.run(module.operation)
    except ir.MLIRError as error:
        raise LoweringError(f"the kernel cannot be lowered to NVVM: {error}") from None
    _annotate_loops(module)
    _pass_by_value(module)


def _pass_by_value(module: ir.Module) -> None:
    """Say of parameters that they are tensor maps; convert-gpu-to-nvvm drops `llvm.byval`."""
    for function in gpu_module_of(module).regions[0].blocks[0].operations:
        if BY_VALUE not in function.operation.attributes:
            continue
        numbers = list(ir.DenseI64ArrayAttr(function.operation.attributes[BY_VALUE]))
        count = len(function.regions[0].blocks[0].arguments)
        with module.context:
            texts = [_TENSOR_MAP if i in numbers else "{}" for i in range(count)]
            found = ir.ArrayAttr.get([ir.Attribute.parse(text) for text in texts])
        function.operation.attributes["arg_attrs"] = found
        del function.operation.attributes[BY_VALUE]


def _annotate_loops(module: ir.Module) -> None:
    """Make a branch's annotation of its loop a property; conversions leave it an attribute."""
    for function in gpu_module_of(module).regions[0].blocks[0].operations:
        for block in (block for region in function.regions for block in region.blocks):
            op = block.operations[len(block.operations) - 1].operation
            if op.name == "llvm.br" and "llvm.loop_annotation" in op.attributes:
                op.attributes["loop_annotation"] = op.attributes["llvm.loop_annotation"]
                del op.attributes["llvm.loop_annotation"]


def translate(module: ir.Module, *, locations: bool = False) -> str:
    """LLVM IR text of a module at stage `nvvm`, as llvmlite's LLVM reads it.

    Args:
        module: stays as it is.
        locations: whether instructions carry the locations of their operations as debug
            information, for the simulator's reports.

    Raises:
        LoweringError: an operation has no translation.
    """
    with module.context, ir.Location.unknown():
        plain = ir.Module.create()
        for op in gpu_module_of(module).regions[0].blocks[0].operations:
            plain.body.append(op.operation.clone())
        if locations:
            passmanager.PassManager.parse(_WITH_LOCATIONS).run(plain.operation)
        try:
            text = str(llvm.translate_module_to_llvmir(plain.operation))
        except (RuntimeError, ir.MLIRError) as error:
            raise LoweringError(f"the kernel cannot be translated to LLVM IR: {error}") from None
    return to_nvptx_llvm(text)


def module_llvm(module: ir.Module) -> str:
    """LLVM IR of a module that may be at any stage; only `nvvm` is taken.

    Raises:
        LoweringError: an operation of an earlier stage, or one that has no translation.
    """
    _check_translated(gpu_module_of(module))
    return translate(module)


def module_ptx(module: ir.Module) -> str:
    """PTX of a module that may be at any stage; only `nvvm` is taken.

    Raises:
        LoweringError: as `module_llvm`, or LLVM refuses it.
        TargetError: no code is made for its architecture.
    """
    arch = module_arch(module)
    return to_ptx(module_llvm(module), arch.name, arch.features)


def _check_translated(gpu_module: ir.Operation) -> None:
    """Refuse what MLIR cannot translate: it would not say so, but end the process."""
    for op in islice(nested_ops(gpu_module), 1, None):
        if op.name.partition(".")[0] not in _TRANSLATED:
            remedy = "run lower-gpu-to-nvvm first"
            message, expected = "this operation has no translation to LLVM IR", "llvm or nvvm"
            raise LoweringError(
                message, location=op.location, expected=expected, found=op.name, remedy=remedy
            )


def compile_module(
    module: ir.Module, observe: Observer | None = None, *, verify: bool = False
) -> CompiledModule:
    """Compile a module at stage `gpu` for the architecture that it names; it is lowered in place.

    Args:
        module: one gpu.module of upstream operations.
        observe: called once per stage, in the order of `STAGES`.
        verify: verify the IR after every upstream pass.

    Raises:
        LoweringError: an operation has no lowering, or LLVM or ptxas refuses the result.
        TargetError: no code is made for its architecture.
    """
    observe = observe or _ignore
    arch = module_arch(module)
    clock = [time.perf_counter()]

    def lap() -> None:
        clock.append(time.perf_counter())

    observe("gpu", lambda: str(module))
    lower_to_nvvm(module, verify=verify)
    lap()
    observe("nvvm", lambda: str(module))
    text = translate(module)
    lap()
    observe("llvmir", lambda: text)
    # without locations: debug information would go into the PTX
    ptx = to_ptx(text, arch.name, arch.features)
    lap()
    observe("ptx", lambda: ptx)
    assembled = assemble(ptx, arch.name)
    lap()
    cubin = None if assembled is None else assembled.cubin
    observe("sass", lambda: _sass(cubin))
    names = ("lower", "translate", "codegen", "assemble")
    seconds = {name: clock[i + 1] - clock[i] for i, name in enumerate(names)}
    resources = {} if assembled is None else assembled.resources
    return CompiledModule(_kept(module), ptx, cubin, resources, seconds)


def _kept(module: ir.Module) -> NvvmModule:
    file = BytesIO()
    module.operation.write_bytecode(file)
    return NvvmModule(file.getvalue())


def _sass(cubin: bytes | None) -> str:
    text = None if cubin is None else disassemble(cubin)
    return text or "// no ptxas, or neither nvdisasm nor cuobjdump on this machine\n"


def _ignore(stage: str, make: Callable[[], str]) -> None:
    """Observe nothing."""
