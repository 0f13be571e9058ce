"""Shapes of results, for ops whose meta kernels are Python functions that import torch._dynamo.

Such a kernel costs 1.0 to 1.3 s at its first call in a process; a rule here costs microseconds.
An op without a rule still works, through its meta kernel. A test compares each rule with torch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from diagc.frontend.torch.call_checks import RefusedCall, check_call

__all__ = ["broadcast_shapes", "infer_shape"]

Shape = tuple[int, ...]
Result = tuple[Shape, torch.dtype]

_RULES: dict[str, Callable[[dict[str, Any]], Result]] = {}


def infer_shape(packet: str, args: dict[str, Any]) -> Result | None:
    """Shape and dtype of the one result of an op, or None when there is no rule.

    Args:
        packet: the op without its overload, `aten.softmax`.
        args: arguments by schema name.

    Raises:
        RefusedCall: eager torch would refuse the call, too.
    """
    rule = _RULES.get(packet)
    if rule is None:
        return None
    check_call(packet, args)
    return rule(args)


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The shape that all shapes broadcast to (`torch.broadcast_shapes` imports sympy).

    Raises:
        RefusedCall: two sizes differ and neither is 1.
    """
    rank = max((len(s) for s in shapes), default=0)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {s for s in sizes if s != 1}
        if len(wide) > 1:
            raise RefusedCall(f"shapes {[tuple(s) for s in shapes]} cannot be broadcast together")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _rule(
    *names: str,
) -> Callable[[Callable[[dict[str, Any]], Result]], Callable[[dict[str, Any]], Result]]:
    def register(function: Callable[[dict[str, Any]], Result]) -> Any:
        for name in names:
            if f"aten.{name}" in _RULES:
                raise ValueError(f"two shape rules for aten.{name}")
            _RULES[f"aten.{name}"] = function
        return function

    return register


def _dtype(args: dict[str, Any]) -> torch.dtype:
    dtype: torch.dtype = args.get("dtype") or args["self"].dtype
    return dtype


@_rule("tril", "triu", "log_softmax", "softmax", "roll", "clone")
def _same(args: dict[str, Any]) -> Result:
    return tuple(args["self"].shape), _dtype(args)


@_rule("layer_norm", "rms_norm", "dropout")
def _same_as_input(args: dict[str, Any]) -> Result:
    return tuple(args["input"].shape), args["input"].dtype


@_rule("cumsum", "cumprod")
def _scan(args: dict[str, Any]) -> Result:
    dtype = _dtype(args)
    integral = not dtype.is_floating_point and not dtype.is_complex
    wide = torch.int64 if integral and args.get("dtype") is None else dtype
    return tuple(args["self"].shape), wide


def _reduced(args: dict[str, Any]) -> Shape:
    shape: Sequence[int] = args["self"].shape
    dim = args.get("dim")
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        dim = list(range(len(shape)))
    dims = {d % max(len(shape), 1) for d in ([dim] if isinstance(dim, int) else dim)}
    if args.get("keepdim", False):
        return tuple(1 if i in dims else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in dims)


@_rule("mean", "linalg_vector_norm")
def _reduce(args: dict[str, Any]) -> Result:
    return _reduced(args), _dtype(args)


@_rule("logsumexp")
def _reduce_to_float(args: dict[str, Any]) -> Result:
    dtype = args["self"].dtype
    return _reduced(args), dtype if dtype.is_floating_point else torch.get_default_dtype()


@_rule("any", "all")
def _reduce_to_bool(args: dict[str, Any]) -> Result:
    dtype = args["self"].dtype
    return _reduced(args), torch.uint8 if dtype == torch.uint8 else torch.bool


@_rule("cat")
def _cat(args: dict[str, Any]) -> Result:
    tensors = [t for t in args["tensors"] if tuple(t.shape) != (0,)] or args["tensors"][:1]
    first = tensors[0]
    dim = args["dim"] % first.dim()
    shape = list(first.shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    for tensor in tensors:
        if [s for i, s in enumerate(tensor.shape) if i != dim] != [
            s for i, s in enumerate(shape) if i != dim
        ]:
            raise RefusedCall(f"cat of shapes {[tuple(t.shape) for t in tensors]} along {dim}")
    dtype = first.dtype
    for tensor in args["tensors"]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(shape), dtype


def _product(left: Sequence[int], right: Sequence[int]) -> Shape:
    """Shape of `torch.matmul`; a vector lacks its outer dim in the result."""
    inner = right[0] if len(right) == 1 else right[-2]
    if not left or not right or left[-1] != inner:
        raise RefusedCall(f"shapes {tuple(left)} and {tuple(right)} cannot be multiplied")
    batch = broadcast_shapes(left[:-2], right[:-2])
    return (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


@_rule("matmul", "mm", "bmm")
def _matmul(args: dict[str, Any]) -> Result:
    left = args["self"]
    right = args["other"] if "other" in args else args["mat2"]
    _same_dtype(left, right)
    return _product(left.shape, right.shape), left.dtype


@_rule("addmm", "baddbmm")
def _addmm(args: dict[str, Any]) -> Result:
    left = args["mat1"] if "mat1" in args else args["batch1"]
    right = args["mat2"] if "mat2" in args else args["batch2"]
    _same_dtype(left, right)
    return _product(left.shape, right.shape), args["self"].dtype


@_rule("linear")
def _linear(args: dict[str, Any]) -> Result:
    source, weight = args["input"], args["weight"]
    _same_dtype(source, weight)
    if source.shape[-1] != weight.shape[-1]:
        shapes = f"{tuple(source.shape)} and {tuple(weight.shape)}"
        raise RefusedCall(f"linear of input and weight of shapes {shapes}")
    return (*source.shape[:-1], *weight.shape[:-1]), source.dtype


def _same_dtype(left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype != right.dtype:
        raise RefusedCall(f"expected one dtype in a product, found {left.dtype}, {right.dtype}")


@_rule("scaled_dot_product_attention")
def _sdpa(args: dict[str, Any]) -> Result:
    query, key, value = args["query"], args["key"], args["value"]
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = [tuple(t.shape) for t in (query, key, value)]
        raise RefusedCall(f"scaled_dot_product_attention of shapes {shapes}")
    heads = [query] if args.get("enable_gqa", False) else [query, key, value]
    batch = broadcast_shapes(*(t.shape[:-2] for t in heads))
    return (*batch, query.shape[-2], value.shape[-1]), query.dtype


@_rule("eye")
def _eye(args: dict[str, Any]) -> Result:
    return (args["n"], args.get("m", args["n"])), args.get("dtype") or torch.get_default_dtype()
