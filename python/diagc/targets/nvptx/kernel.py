"""A kernel function in, a compiled GPU kernel out: through the cache, or through LLVM and ptxas."""

import gc
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from weakref import WeakValueDictionary

from diagc.cost import device_of_architecture
from diagc.debug import logger
from diagc.mlir import bindings, ir
from diagc.options import CompileOptions, current
from diagc.passes.kernels.generalize_kernels import kernel_key
from diagc.runtime.cache import Entry, cache_key, default_cache
from diagc.runtime.cuda.kernel import CudaKernel
from diagc.runtime.gpu_kernel import GpuKernel, planned_sizes
from diagc.runtime.sharing import PARTS
from diagc.targets.nvptx.arch import GpuArch, parse_arch
from diagc.targets.nvptx.codegen import start_worker
from diagc.targets.nvptx.lowering import GpuModule, build_modules
from diagc.targets.nvptx.pipeline import (
    CompiledModule,
    NvvmModule,
    Observer,
    compile_module,
)
from diagc.targets.nvptx.ptxas import StallError, find_tool
from diagc.targets.nvptx.symbols import entry_symbol
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = [
    "CODE_VERSION",
    "LoadedKernel",
    "compile_kernel",
    "load_kernel",
    "lower_kernel",
    "text_key",
]

# Part of every cache key: raise it when the code generator makes other code from the same kernel.
CODE_VERSION = 30


class LoadedKernel(CudaKernel):
    """A kernel with its key in the cache, the news whether it came from there, and its texts.

    Args:
        kernel: what is launched.
        nvvm: what its PTX was made from.
        key: in the cache.
        cache: "hit" or "miss".
        tiles: the schedule of a kernel on tiles; None for one on threads.
        shared: the schedule of its form for few rows, if it has one.
    """

    def __init__(
        self,
        kernel: GpuKernel,
        nvvm: NvvmModule,
        key: str,
        cache: str,
        tiles: TileSchedule | None,
        shared: TileSchedule | None = None,
    ) -> None:
        """Keep the code; no GPU is needed before the first launch."""
        super().__init__(kernel)
        self._nvvm = nvvm
        self.key = key
        self.cache = cache
        self.tiles = tiles
        self.shared = shared

    @property
    def multiprocessors(self) -> int:
        """Of a usual GPU of the architecture."""
        return device_of_architecture(self.kernel.arch).units

    def schedule_for(self, sizes: Mapping[str, int]) -> TileSchedule | None:
        """The schedule of what runs, on a usual GPU, for sizes of all axes; None if on threads."""
        if self.shared is None:
            return self.tiles
        planned = planned_sizes(self.kernel, sizes, self.multiprocessors)
        return self.shared if planned[PARTS] else self.tiles

    @property
    def llvm_text(self) -> str:
        """LLVM IR that the PTX was made from, with locations."""
        return self._nvvm.llvm_text

    @property
    def nvvm_text(self) -> str:
        """The module that the LLVM IR was made from."""
        return self._nvvm.nvvm_text


def _packed(nvvm: NvvmModule) -> str:
    return b64encode(zlib.compress(nvvm.bytecode, 1)).decode()


def _unpacked(text: str) -> NvvmModule:
    return NvvmModule(zlib.decompress(b64decode(text)))


# Kernels in use, by key: programs of one process share them.
_LOADED: "WeakValueDictionary[str, LoadedKernel]" = WeakValueDictionary()


def lower_kernel(
    kernel: ir.Operation, options: CompileOptions | None = None, observe: Observer | None = None
) -> LoadedKernel:
    """Compile one kernel for the architecture of the options' target; equal ones are cached.

    Args:
        kernel: a `diag.kernel` function, as generalize-kernels leaves it.
        options: default: those in force.
        observe: gets each stage of the code; the cache is not asked then.

    Raises:
        UnsupportedError: an op that the target cannot lower.
        LoweringError: LLVM or ptxas refuses the code, or a block has too little memory.
    """
    options = options or current()
    arch, tf32 = _arch(options), _is_tf32(options)
    # the name is part of the code, and a profiler must show the one that this program has
    made_for = f"{_target_text(options)} {entry_symbol(kernel)}"
    key = cache_key(kernel_key(kernel), made_for, _versions())
    if observe is None:
        found = load_kernel(key)
        if found is not None:
            return found
    start_worker()  # gets ready while the kernel is lowered
    with _no_collection():
        built, compiled = compile_kernel(kernel, arch, observe, tf32=tf32)
    made = built.as_kernel(arch.name, compiled.ptx, compiled.cubin)
    schedules = {"tiles": built.tiles, "shared": built.shared}
    texts = {name: tile and asdict(tile) for name, tile in schedules.items()}
    default_cache().put(key, made.to_json().encode(), {"nvvm": _packed(compiled.nvvm), **texts})
    loaded = _LOADED[key] = LoadedKernel(made, compiled.nvvm, key, "miss", **schedules)
    return loaded


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause Python's search for cycles: thousands of new ops would start some, 70 ms each."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compile_kernel(
    kernel: ir.Operation, arch: GpuArch, observe: Observer | None = None, *, tf32: bool = False
) -> tuple[GpuModule, CompiledModule]:
    """The first form of a kernel whose registers do not spill.

    Where all of them do, or no ptxas tells, it is the first of all, on warpgroups only if these do
    not spill.
    """
    made: list[tuple[int, GpuModule, CompiledModule]] = []
    bad: set[TileSchedule | None] = set()
    for form, built in enumerate(build_modules(kernel, arch, tf32=tf32)):
        needed = not made and not built.bulk_launches  # what spills beside warpgroups, if no other
        used = {built.tiles, built.beside, built.shared} - {None}
        if not needed and bad & used:
            continue
        try:
            compiled = compile_module(built.module)
        except StallError as error:
            if not built.bulk_launches:
                raise
            logger("nvptx").info("no warpgroups: %s", error.message)
            bad.add(built.tiles)
            continue
        spilling = _spilling(built, compiled)
        if not built.bulk_launches or built.tiles not in spilling:
            made.append((form, built, compiled))
        if not spilling:
            break
        bad |= spilling
    else:
        del made[1:]
    form, built, compiled = made[-1]
    if observe is not None:
        built = next(islice(build_modules(kernel, arch, tf32=tf32), form, None))
        return built, compile_module(built.module, observe)
    return built, compiled


def _spilling(built: GpuModule, compiled: CompiledModule) -> set[TileSchedule | None]:
    """The schedules of functions that spill."""
    names = {name for name, used in compiled.resources.items() if used.spills}
    plain = built.beside if built.bulk_launches else built.tiles
    forms = (
        (plain, built.launches),
        (built.tiles, built.bulk_launches),
        (built.shared, built.shared_launches),
    )
    return {tile for tile, launches in forms if any(x.symbol in names for x in launches)}


def load_kernel(key: str) -> LoadedKernel | None:
    """The kernel of a key, if it is loaded or stored; one that cannot be read is removed."""

    def read(entry: Entry) -> LoadedKernel:
        kernel = GpuKernel.from_json(entry.payload.decode(errors="replace"))
        nvvm = _unpacked(entry.metadata["nvvm"])
        texts = {name: entry.metadata[name] for name in ("tiles", "shared")}
        schedules = {name: None if x is None else TileSchedule(**x) for name, x in texts.items()}
        return LoadedKernel(kernel, nvvm, key, "hit", **schedules)

    found = _LOADED.get(key) or default_cache().load(key, read)
    if found is not None:
        _LOADED[key] = found
    return found


def text_key(text: str) -> str:
    """The cache key of a text that code for the architecture in force is made from."""
    return cache_key(text, _target_text(current()), _versions())


def _arch(options: CompileOptions) -> GpuArch:
    name, _, arch = options.target.partition(":")
    return parse_arch(arch if name == "nvptx" else "")


def _is_tf32(options: CompileOptions) -> bool:
    return options.float32_matmul_precision != "highest"


def _target_text(options: CompileOptions) -> str:
    """A kernel without a cubin is compiled again where there is an assembler."""
    arch, assembler = _arch(options), "ptxas" if find_tool() else "ptx"
    return f"{arch.name} {arch.features} {assembler} {'tf32' if _is_tf32(options) else 'f32'}"


@cache
def _versions() -> dict[str, str]:
    found = {"code": str(CODE_VERSION)}
    for package in (bindings().replace("_", "-"), "llvmlite"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
