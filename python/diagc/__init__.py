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
    from diagc.options import CompileOptions as CompileOptions

__all__ = ["CompileOptions", "CompiledFunction", "DiagcError", "__version__", "compile", "simulate"]

__version__ = "0.1.0"

_HOMES = {
    "CompileOptions": "diagc.options",
    "CompiledFunction": "diagc.api",
    "DiagcError": "diagc.errors",
    "compile": "diagc.api",
    "simulate": "diagc.api",
}

if not TYPE_CHECKING:  # a typed __getattr__ would make every misspelt name check

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'diagc' has no attribute '{name}'")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
