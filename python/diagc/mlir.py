"""MLIR's Python bindings for the whole project: `from diagc.mlir import ir, arith, func`.

No other module imports bindings. They come from the `torch-mlir` wheel, which holds the complete
upstream set, or from `mlir` (the real mlir-python-bindings) when `DIAGC_MLIR=mlir` asks for it and
it is installed. Every name is imported on first use, so that `diagc --help` pays for none of them
(`ir` costs 0.11 s, `linalg` another 0.1 s).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from diagc import debug
from diagc.errors import DiagcError

if TYPE_CHECKING:
    from torch_mlir import execution_engine as execution_engine
    from torch_mlir import fx as fx
    from torch_mlir import ir as ir
    from torch_mlir import passmanager as passmanager
    from torch_mlir import rewrite as rewrite
    from torch_mlir import runtime as runtime
    from torch_mlir.dialects import affine as affine
    from torch_mlir.dialects import arith as arith
    from torch_mlir.dialects import bufferization as bufferization
    from torch_mlir.dialects import builtin as builtin
    from torch_mlir.dialects import cf as cf
    from torch_mlir.dialects import ext as ext
    from torch_mlir.dialects import func as func
    from torch_mlir.dialects import gpu as gpu
    from torch_mlir.dialects import index as index
    from torch_mlir.dialects import irdl as irdl
    from torch_mlir.dialects import linalg as linalg
    from torch_mlir.dialects import llvm as llvm
    from torch_mlir.dialects import math as math_dialect
    from torch_mlir.dialects import memref as memref
    from torch_mlir.dialects import nvgpu as nvgpu
    from torch_mlir.dialects import nvvm as nvvm
    from torch_mlir.dialects import scf as scf
    from torch_mlir.dialects import tensor as tensor
    from torch_mlir.dialects import torch as torch_dialect
    from torch_mlir.dialects import transform as transform
    from torch_mlir.dialects import ub as ub
    from torch_mlir.dialects import vector as vector
    from torch_mlir.dialects import x86 as x86
    from torch_mlir.extras import fx_importer as fx_importer

__all__ = [
    "affine",
    "arith",
    "bindings",
    "bufferization",
    "builtin",
    "cf",
    "execution_engine",
    "ext",
    "func",
    "fx",
    "fx_importer",
    "gpu",
    "index",
    "ir",
    "irdl",
    "linalg",
    "llvm",
    "math_dialect",
    "memref",
    "nvgpu",
    "nvvm",
    "passmanager",
    "rewrite",
    "runtime",
    "scf",
    "tensor",
    "torch_dialect",
    "transform",
    "ub",
    "vector",
    "x86",
]

_TOP_LEVEL = ("execution_engine", "fx", "ir", "passmanager", "rewrite", "runtime")
_RENAMED = {
    "fx_importer": "extras.fx_importer",
    "math_dialect": "dialects.math",
    "torch_dialect": "dialects.torch",
}


def bindings() -> str:
    """Name the package that bindings are taken from: `mlir` or `torch_mlir`.

    Raises:
        DiagcError: no such package is installed.
    """
    package = debug.MLIR.get()
    if find_spec(package) is None:
        raise DiagcError(
            f"the Python package '{package}' with MLIR's bindings is not installed",
            remedy="pip install torch-mlir, or set DIAGC_MLIR to the package that is installed",
        )
    return package


def _submodule(name: str) -> str:
    if name in _TOP_LEVEL:
        return name
    return _RENAMED.get(name, f"dialects.{name}")


if not TYPE_CHECKING:  # a typed __getattr__ would make every misspelt name check

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'diagc.mlir' has no attribute '{name}'")
        module = import_module(f"{bindings()}.{_submodule(name)}")
        globals()[name] = module
        return module
