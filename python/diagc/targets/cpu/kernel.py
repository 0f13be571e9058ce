"""A scheduled kernel function in, a loaded kernel out: through the cache, or through LLVM."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from weakref import WeakValueDictionary

from diagc.mlir import bindings, ir
from diagc.options import CompileOptions
from diagc.passes.kernels.generalize_kernels import kernel_key
from diagc.runtime.cache import Entry, cache_key, default_cache
from diagc.runtime.cpu_features import CpuFeatures, selected_features
from diagc.runtime.cpu_kernel import CpuKernel
from diagc.runtime.signature import KernelSignature
from diagc.targets.cpu.jit import Observer, compile_module
from diagc.targets.cpu.lower import build_module

__all__ = ["CODE_VERSION", "LoadedKernel", "load_kernel", "lower_kernel", "text_key"]

# Part of every cache key: raise it when the code generator makes other code from the same kernel.
CODE_VERSION = 32


class LoadedKernel(CpuKernel):
    """A kernel with its key in the cache, and the news whether it came from there.

    `cache` is "hit" or "miss".
    """

    def __init__(
        self, signature: KernelSignature, object_code: bytes, key: str, cache: str
    ) -> None:
        """Load the object."""
        super().__init__(signature, object_code, selected_features())
        self.key = key
        self.cache = cache


# Kernels in use, by key: programs of one process share them.
_LOADED: "WeakValueDictionary[str, LoadedKernel]" = WeakValueDictionary()


def lower_kernel(
    kernel: ir.Operation, _options: CompileOptions | None = None, observe: Observer | None = None
) -> LoadedKernel:
    """Compile and load one kernel; equal kernels come from the cache.

    Args:
        kernel: a `diag.kernel` function with a schedule, as generalize-kernels leaves it.
        observe: gets each stage of the code; the cache is not asked then.

    Raises:
        UnsupportedError: an op that the target cannot lower.
        LoweringError: LLVM refuses the code.
    """
    features = selected_features()
    key = _key(kernel, features)
    if observe is None:
        found = load_kernel(key)
        if found is not None:
            return found
    module, signature = build_module(kernel, features)
    code = compile_module(module, features, observe=observe).code
    default_cache().put(key, code, {"signature": signature.to_json()})
    loaded = _LOADED[key] = LoadedKernel(signature, code, key, "miss")
    return loaded


def load_kernel(key: str) -> LoadedKernel | None:
    """The kernel of a key, if it is loaded or stored; one that cannot be loaded is removed."""

    def read(entry: Entry) -> LoadedKernel:
        signature = KernelSignature.from_json(str(entry.metadata.get("signature", "")))
        return LoadedKernel(signature, entry.payload, key, "hit")

    found = _LOADED.get(key) or default_cache().load(key, read)
    if found is not None:
        _LOADED[key] = found
    return found


def text_key(text: str) -> str:
    """The cache key of a text that this machine's code is made from."""
    return cache_key(text, selected_features().cache_text, _versions())


def _key(kernel: ir.Operation, features: CpuFeatures) -> str:
    return cache_key(kernel_key(kernel), features.cache_text, _versions())


@cache
def _versions() -> dict[str, str]:
    package = bindings().replace("_", "-")
    try:
        return {package: version(package), "code": str(CODE_VERSION)}
    except PackageNotFoundError:
        return {package: "unknown", "code": str(CODE_VERSION)}
