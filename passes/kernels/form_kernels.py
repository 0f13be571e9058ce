"""Cut a function into kernels: private functions, each of which becomes one launch.

Before:

    func.func @main(%q, %k, %v) {
      %s = "diag.map"() ({ scale }) ...                 // over b h q d
      %o = "diag.stream"() ({ ... %s, chunk(%k), chunk(%v) ... })
      %r = "diag.contract"(%o, %w) {over = ["h", "e"]}  // a matrix of weights
      return %r
    }

After:

    func.func @main(%q, %k, %v) {
      %o = call @stream_max_exp_d64_f32(%q, %k, %v)
      %r = "diag.contract"(%o, %w) {over = ["h", "e"]}  // the library's
      return %r
    }
    func.func private @stream_max_exp_d64_f32(...) attributes {diag.kernel, diag.origin = [...]}

Requires: normalisers are expanded and streams derived; run on the module. Every function with a
body that is neither a kernel nor an extern is cut.

Declines: relabel, reindex, concat, pad and calls of externs stay where they are: the run time
serves them with views and copies. A lone contraction, one with a matrix of weights, and a map of
one operation (of a few, where the result is small) that nothing fuses with are left to the library;
`library=none` makes kernels of those too. A contraction whose result is wider than an operand (f32
from bf16) is no product of the library, and may share a kernel with maps. Ops are not fused when an
axis that would have to stay inside a task is dynamic, long or streamed, or when a path would leave
the kernel and come back.
"""

from dataclasses import dataclass
from typing import ClassVar

from diagc.dialects import diag
from diagc.errors import PassError
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.kernels.kernel_clusters import ClusterOptions, plan_kernels
from diagc.passes.kernels.outlining import outline_kernels

__all__ = ["FormKernelsPass", "form_kernels"]

LIBRARY = ("auto", "none", "tiled")


@dataclass(frozen=True)
class FormKernelsPass(Pass):
    """cut functions into kernels: private functions that become one launch each."""

    name: ClassVar[str] = "form-kernels"
    anchor: ClassVar[str] = "builtin.module"
    library: str = "auto"
    """Who computes lone contractions: the library, kernels (`none`), or kernels where these make
    large tiles, together with the maps behind (`tiled`)."""
    single: bool = False
    """One kernel for every op, to find out which one goes wrong."""

    def run(self, op: ir.Operation) -> None:
        """Cut every function of the module."""
        if self.library not in LIBRARY:
            raise PassError(
                f"unknown value '{self.library}' of option 'library'",
                expected=f"one of {', '.join(LIBRARY)}",
            )
        options = ClusterOptions(self.library, self.single)
        for function in _functions(op):
            form_kernels(function, options)


def _functions(module: ir.Operation) -> list[ir.Operation]:
    """Functions with a body that are no kernels."""
    ops = [op.operation for op in module.regions[0].blocks[0].operations]
    bodies = [op for op in ops if op.name == "func.func" and len(op.regions[0].blocks)]
    return [op for op in bodies if not diag.is_kernel(op)]


def form_kernels(
    function: ir.Operation, options: ClusterOptions | None = None
) -> list[ir.Operation]:
    """Cut one function; gives its kernels in the order of their calls."""
    with function.context, function.location:
        plan = plan_kernels(diag.function_body(function), options)
        return outline_kernels(function, plan)
