"""Sizes that Dynamo left open and a compiled region has fixed: they become guards of the graph."""

from collections.abc import Iterator
from typing import Any

import torch
from torch._dynamo.source import TensorPropertySource
from torch._guards import TracingContext

from diagc.errors import UnsupportedError
from diagc.runtime.specialization import Specialization
from diagc.torch_backend.splice import Cut

__all__ = ["fix_sizes"]


def fix_sizes(cut: Cut, specialization: Specialization) -> None:
    """Let torch compile again for other sizes than those that a region's program has fixed.

    Raises:
        UnsupportedError: the user has declared such a size open.
    """
    sizes = list(_fixed(cut, specialization))
    for size in sizes:
        if _declared_open(size):
            reason = f"it has to fix size {size}, which is declared open (mark_dynamic)"
            raise UnsupportedError("a region", reason=reason)
    for size in sizes:
        int(size)  # leaves a guard


def _fixed(cut: Cut, specialization: Specialization) -> Iterator[torch.SymInt]:
    for source, entry in zip(specialization.sources, specialization.program.inputs, strict=True):
        if not isinstance(source, int):
            continue
        known = dict(zip(entry.type.labels, entry.sizes, strict=True))
        shape = cut.inputs[source].meta["val"].shape
        for labels, size in zip(entry.dims, shape, strict=True):
            if isinstance(size, torch.SymInt) and None not in [known[label] for label in labels]:
                yield size


def _declared_open(size: Any) -> bool:
    context = TracingContext.try_get()
    if context is None:
        return False
    declared = {
        (symbolic.tensor_source.name, dim)
        for symbolic in context.tensor_to_context.values()
        for dim, constraint in enumerate(getattr(symbolic, "constraint_sizes", None) or ())
        if constraint is not None and not constraint.warn_only
    }
    sources = size.node.shape_env.var_to_sources
    return any(
        isinstance(source, TensorPropertySource) and (source.base.name, source.idx) in declared
        for symbol in size.node.expr.free_symbols
        for source in sources.get(symbol, ())
    )
