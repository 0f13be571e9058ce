"""diagc: a compiler from diagrams of tensor programs to streamed, fused kernels.

>>> import diagc
>>> attention = diagc.compile(my_attention, q, k, v)        # doctest: +SKIP

Names are imported on first use, so that `import diagc` needs neither torch nor MLIR.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diagc.api import CompiledFunction as CompiledFunction
    from diagc.api import compile as compile
    from diagc.api import simulate as simulate
    from diagc.errors import DiagcError as DiagcError
    from diagc.frontend.torch.normalize_function import normalize as normalize
    from diagc.normalizers import derive as derivation
    from diagc.normalizers import gradient as gradient
    from diagc.normalizers import register_normalizer as register_normalizer
    from diagc.normalizers import unregister_normalizer as unregister_normalizer
    from diagc.options import CompileOptions as CompileOptions
    from diagc.packed import document_bounds as document_bounds
    from diagc.packed import packed_attention as packed_attention
    from diagc.torch_backend.explain import explain as explain

__all__ = [
    "CompileOptions",
    "CompiledFunction",
    "DiagcError",
    "__version__",
    "compile",
    "derivation",
    "document_bounds",
    "explain",
    "gradient",
    "normalize",
    "packed_attention",
    "register_normalizer",
    "simulate",
    "unregister_normalizer",
]

__version__ = "0.1.0"

_HOMES = {
    # name: (module, what it is called there; nothing for the module itself)
    "CompileOptions": ("diagc.options", "CompileOptions"),
    "CompiledFunction": ("diagc.api", "CompiledFunction"),
    "DiagcError": ("diagc.errors", "DiagcError"),
    "compile": ("diagc.api", "compile"),
    "derivation": ("diagc.normalizers", "derive"),
    "document_bounds": ("diagc.packed", "document_bounds"),
    "explain": ("diagc.torch_backend.explain", "explain"),
    "gradient": ("diagc.normalizers", "gradient"),
    "normalize": ("diagc.frontend.torch.normalize_function", "normalize"),
    "packed_attention": ("diagc.packed", "packed_attention"),
    "register_normalizer": ("diagc.normalizers", "register_normalizer"),
    "scalars": ("diagc.scalars", ""),
    "simulate": ("diagc.api", "simulate"),
    "unregister_normalizer": ("diagc.normalizers", "unregister_normalizer"),
}

if not TYPE_CHECKING:  # a typed __getattr__ would make every misspelt name check

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'diagc' has no attribute '{name}'")
        home, own = _HOMES[name]
        module = import_module(home)
        value = getattr(module, own) if own else module
        globals()[name] = value
        return value
