"""Which of torch's own operations give a row the same bits, however many rows there are."""

from collections.abc import Mapping
from typing import Any

import torch

from diagc.dialects import diag
from diagc.errors import UnsupportedError
from diagc.frontend.torch.aten import operator_named
from diagc.frontend.torch.extern import ExternCall
from diagc.mlir import ir

__all__ = ["check_rows", "keeps_rows"]

_MOVES = frozenset(
    f"aten.{name}"
    for name in (
        *("cat", "concat", "embedding", "flip", "gather", "index", "index_select", "masked_select"),
        *("index_put", "index_put_", "one_hot", "repeat", "repeat_interleave", "roll", "stack"),
        *("split", "split_with_sizes", "chunk", "unbind", "take_along_dim", "tril", "triu"),
        *("slice_scatter", "select_scatter", "index_copy", "index_copy_", "constant_pad_nd", "pad"),
        *("argmax", "argmin", "max", "min", "amax", "amin", "sort", "topk", "any", "all"),
        *("copy", "copy_", "to", "_to_copy", "contiguous", "clone", "nonzero", "lift_fresh_copy"),
    )
)
"""Operations that move numbers or choose among them, and compute none."""


def keeps_rows(target: Any, floats: bool) -> bool:
    """Whether torch computes each number of a result alone, or exactly.

    Of sums and products of floats it promises nothing: it chooses their code by size.

    Args:
        target: what a graph calls.
        floats: whether it reads floats.
    """
    if not isinstance(target, torch._ops.OpOverload):
        return not isinstance(target, torch._ops.HigherOrderOperator)
    if not floats:
        return True
    packet = ".".join(str(target).split(".")[:2])
    return torch.Tag.pointwise in target.tags or packet in _MOVES or _is_alias(target)


def check_rows(externs: Mapping[str, ExternCall], module: ir.Module) -> None:
    """See that what torch runs in a program keeps rows.

    Args:
        externs: by symbol.
        module: that declares them.

    Raises:
        UnsupportedError: an operation does not; with its place.
    """
    for function in diag.functions(module):
        extern = externs.get(diag.symbol_of(function))
        if extern is not None:
            type_ = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
            floats = any(diag.is_float(diag.element_type(given)) for given in type_.inputs)
            if not keeps_rows(operator_named(extern.target), floats):
                raise UnsupportedError(
                    f"{extern.target} with batch_invariant",
                    reason=f"torch runs it, and chooses its code by size ({extern.why})",
                    location=extern.location,
                    remedy="keep it outside of the function, or compile without batch_invariant",
                )


def _is_alias(target: torch._ops.OpOverload) -> bool:
    """Whether the result is a view of what the operation reads."""
    returns = target._schema.returns
    return bool(returns) and all(r.alias_info and not r.alias_info.is_write for r in returns)
