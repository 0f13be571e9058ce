"""Write a captured graph in torch-mlir's raw torch dialect: the ops of the graph, one for one.

Parameters stay arguments. No lowering is run: the torch backend contract splits softmax, and sums
bf16 in bf16.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from diagc.errors import UnsupportedError
from diagc.frontend.torch.captured import Captured
from diagc.frontend.torch.from_fx import node_location
from diagc.mlir import fx_importer, ir, torch_dialect

__all__ = ["to_torch_dialect"]


def to_torch_dialect(captured: Captured) -> ir.Module:
    """A module with one `@main` over `!torch.vtensor`s; what is no tensor is not returned.

    Raises:
        UnsupportedError: torch-mlir cannot import a node of the graph.
    """
    context = ir.Context()
    context.enable_multithreading(False)
    torch_dialect.register_dialect(context)
    importer = fx_importer.FxImporter(context=context)
    importer._cc = _located_cache(context)
    importer._cc._symbolic_guards = {
        name: fx_importer.RangeConstraint(low, high)
        for name, (low, high) in captured.symbols.items()
    }
    graph = _tensors_only(captured.graph)
    try:
        importer.import_stateless_graph(
            graph, import_symbolic_shape_expressions=bool(captured.symbols)
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnsupportedError(
            "torch-mlir import", reason=reason, remedy='use the "fx" adapter'
        ) from error
    module: ir.Module = importer.module
    return module


def _located_cache(context: ir.Context) -> Any:
    """torch-mlir's cache, with locations that have columns, and types of plain meta tensors."""

    class LocatedCache(fx_importer.ContextCache):
        def get_node_location(self, node: fx.Node) -> ir.Location | None:
            where = node_location(node)
            if where is None:
                return ir.Location.unknown(context)
            return ir.Location.file(where.file, where.line, where.column, context)

        def value_info_to_type(self, val: Any, **options: Any) -> ir.Type:
            if type(val) is torch.Tensor:
                return self.get_vtensor_type(val.shape, val.dtype)
            return super().value_info_to_type(val, **options)

    return LocatedCache(context)


def _tensors_only(graph: fx.Graph) -> fx.Graph:
    """A copy that returns tensors only, because the torch dialect has no other results."""
    copy = fx.Graph()
    result = copy.graph_copy(graph, {})
    outputs = result if isinstance(result, Sequence) else (result,)
    copy.output(tuple(node for node in outputs if isinstance(node, fx.Node)))
    return copy
