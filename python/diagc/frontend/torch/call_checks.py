"""What torch refuses about a call, for the ops whose shapes are inferred without torch.

Without these checks a wrong dim or a weight of the wrong shape would be compiled to something, and
the program would run where eager torch raises. A test compares each check with torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from diagc.errors import SourceLocation, UserError
from diagc.frontend.torch.aten import operator_named, replace_refs

__all__ = ["RefusedCall", "check_call", "check_dims", "check_float8", "is_float8", "need"]

_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {}


class RefusedCall(RuntimeError):
    """Eager torch would refuse this call; torch.export need not be asked."""


def check_call(packet: str, args: dict[str, Any]) -> None:
    """See that eager torch would accept a call.

    Args:
        packet: the op without its overload, `aten.softmax`.
        args: arguments by schema name.

    Raises:
        RefusedCall: it would not.
    """
    if packet in _CHECKS:
        _CHECKS[packet](args)


def is_float8(dtype: torch.dtype) -> bool:
    """Whether numbers are 8-bit floats, which torch stores and converts but hardly computes."""
    return dtype.is_floating_point and dtype.itemsize == 1


def check_float8(target: str, args: Mapping[str, Any], location: SourceLocation | None) -> None:
    """See that torch has an op for its tensors of f8: it is asked, with two numbers along each dim.

    Args:
        target: overload name.
        args: by schema name; tensors may be without values, and sizes open.
        location: of the call.

    Raises:
        UserError: torch has not got it.
    """
    op = operator_named(target)
    if op is None:
        return
    sample = {name: replace_refs(value, _sample) for name, value in args.items()}
    if "normalized_shape" in sample:
        sample["normalized_shape"] = [2] * len(sample["normalized_shape"])
    try:
        with torch.random.fork_rng(devices=[]), torch._C._DisablePythonDispatcher():
            op(**sample)
    except NotImplementedError as error:
        raise UserError(
            f"torch does not compute {target} on 8-bit floats",
            expected="views, copies and conversions of them",
            found=" ".join(str(error).split()),
            remedy="convert with .float() first, and multiply by the scales",
            location=location,
        ) from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return  # these sizes do not fit the other arguments, such as those of a view


def _sample(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros([2] * value.dim(), dtype=value.dtype)
    return 2 if hasattr(value, "free_symbols") else value


def need(holds: bool, message: str) -> None:
    """Refuse the call unless something holds.

    Raises:
        RefusedCall: it does not.
    """
    if not holds:
        raise RefusedCall(message)


def check_dims(dims: Sequence[int], rank: int) -> None:
    """See that dims exist, each once; a scalar has one dim here, as in torch.

    Raises:
        RefusedCall: they do not.
    """
    wide = max(rank, 1)
    for dim in dims:
        need(
            -wide <= dim < wide,
            f"Dimension out of range (expected to be in range of [{-wide}, {wide - 1}], "
            f"but got {dim})",
        )
    places = [dim % wide for dim in dims]
    for dim in places:
        need(places.count(dim) == 1, f"dim {dim} appears multiple times in the list of dims")


def _check(*names: str) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    def register(function: Callable[[dict[str, Any]], None]) -> None:
        _CHECKS.update({f"aten.{name}": function for name in names})

    return register


def _listed(dims: Any) -> list[int]:
    return [dims] if isinstance(dims, int) else list(dims or ())


def _check_dim(args: dict[str, Any]) -> None:
    check_dims(_listed(args.get("dim")), args["self"].dim())


_check("any", "all", "cumsum", "cumprod", "logsumexp")(_check_dim)


def _is_float(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


@_check("softmax", "log_softmax")
def _softmax(args: dict[str, Any]) -> None:
    _check_dim(args)
    dtype = args.get("dtype") or args["self"].dtype
    need(_is_float(dtype), f"a softmax of {dtype} needs a floating point dtype")


@_check("mean")
def _mean(args: dict[str, Any]) -> None:
    _check_dim(args)
    dtype = args.get("dtype") or args["self"].dtype
    need(_is_float(dtype), f"a mean of {dtype} needs a floating point dtype")


@_check("linalg_vector_norm")
def _vector_norm(args: dict[str, Any]) -> None:
    source = args["self"]
    dims = _listed(args.get("dim"))
    check_dims(dims, source.dim())
    need(_is_float(source.dtype), f"a vector norm of {source.dtype} needs a floating point dtype")
    order = float(args["ord"])
    if order < 0 or order == float("inf"):
        sizes = [source.shape[d] for d in dims] if dims else list(source.shape)
        need(0 not in sizes, f"the norm of order {order} of nothing is not defined")


@_check("tril", "triu")
def _triangle(args: dict[str, Any]) -> None:
    need(args["self"].dim() >= 2, "a triangle needs a tensor of at least 2 dimensions")


@_check("roll")
def _roll(args: dict[str, Any]) -> None:
    shifts, dims = _listed(args["shifts"]), _listed(args.get("dims"))
    need(len(shifts) == (len(dims) or 1), f"{len(shifts)} shifts for {len(dims)} dims")
    for dim in dims:
        need(args["self"].dim() > 0, f"dimension {dim} of a tensor without dimensions")
        check_dims([dim], args["self"].dim())


@_check("layer_norm", "rms_norm")
def _norm(args: dict[str, Any]) -> None:
    source, shape = args["input"], list(args["normalized_shape"])
    need(bool(shape), "normalized_shape must have at least one dimension")
    found = list(source.shape)[-len(shape) :]
    need(found == shape, f"normalized_shape is {shape}, the last dims of the input are {found}")
    need(_is_float(source.dtype), f"a norm of {source.dtype} needs a floating point dtype")
    for name in ("weight", "bias"):
        factor = args.get(name)
        if factor is not None:
            need(list(factor.shape) == shape, f"{name} has shape {list(factor.shape)}, not {shape}")


@_check("cat")
def _cat(args: dict[str, Any]) -> None:
    tensors = args["tensors"]
    need(len(tensors) > 0, "expected tensors to concatenate, found none")
    for i, tensor in enumerate(tensors):
        need(tensor.dim() > 0, f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    rank = max(t.dim() for t in tensors)
    check_dims([args["dim"]], rank)


def _check_ranks(args: dict[str, Any], rank: int, *names: str) -> None:
    for name in names:
        found = args[name].dim()
        need(found == rank, f"{name} must have {rank} dimensions, found {found}")


@_check("mm")
def _mm(args: dict[str, Any]) -> None:
    _check_ranks(args, 2, "self", "mat2")


@_check("bmm")
def _bmm(args: dict[str, Any]) -> None:
    _check_ranks(args, 3, "self", "mat2")
    _check_same_batch(args["self"], args["mat2"])


@_check("matmul")
def _matmul(args: dict[str, Any]) -> None:
    ranks = args["self"].dim(), args["other"].dim()
    need(0 not in ranks, f"matmul needs at least 1 dimension each, found {ranks[0]} and {ranks[1]}")


@_check("addmm")
def _addmm(args: dict[str, Any]) -> None:
    _check_ranks(args, 2, "mat1", "mat2")
    _check_added(args["self"], args["mat1"], args["mat2"])


@_check("baddbmm")
def _baddbmm(args: dict[str, Any]) -> None:
    _check_ranks(args, 3, "batch1", "batch2")
    _check_same_batch(args["batch1"], args["batch2"])
    _check_added(args["self"], args["batch1"], args["batch2"])


@_check("linear")
def _linear(args: dict[str, Any]) -> None:
    source, weight, bias = args["input"], args["weight"], args.get("bias")
    need(source.dim() > 0, "linear needs an input of at least 1 dimension")
    need(weight.dim() in (1, 2), f"weight must have 1 or 2 dimensions, found {weight.dim()}")
    if bias is not None:
        shape = (*source.shape[:-1], *weight.shape[:-1])
        need(weight.dim() == 2 or bias.dim() == 0, "a bias needs a weight of 2 dimensions")
        need(bias.dtype == source.dtype, f"input is {source.dtype}, bias {bias.dtype}")
        need(_expands(bias.shape, shape), f"bias {tuple(bias.shape)} does not expand to {shape}")


def _check_same_batch(left: torch.Tensor, right: torch.Tensor) -> None:
    sizes = left.shape[0], right.shape[0]
    need(sizes[0] == sizes[1], f"batches of {sizes[0]} and {sizes[1]} matrices")


def _check_added(term: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    shape = (*left.shape[:-1], right.shape[-1])
    need(term.dtype == left.dtype, f"expected one dtype, found {term.dtype} and {left.dtype}")
    need(_expands(term.shape, shape), f"{tuple(term.shape)} does not expand to {tuple(shape)}")


def _expands(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether torch's `expand` takes `shape` to `target`."""
    last = list(target)[len(target) - len(shape) :]
    fits = all(a in (1, b) for a, b in zip(shape, last, strict=False))
    return len(shape) <= len(target) and fits


@_check("scaled_dot_product_attention")
def _attention(args: dict[str, Any]) -> None:
    query, key, value = (args[name] for name in ("query", "key", "value"))
    ranks = [t.dim() for t in (query, key, value)]
    need(min(ranks) >= 2, f"attention needs at least 2 dimensions each, found {ranks}")
    dtypes = {t.dtype for t in (query, key, value)}
    need(
        len(dtypes) == 1,
        f"query, key and value must have one dtype, found {sorted(map(str, dtypes))}",
    )
    need(_is_float(query.dtype), f"attention of {query.dtype} needs a floating point dtype")
    if args.get("enable_gqa", False) and min(ranks) >= 3:
        heads = [t.shape[-3] for t in (query, key, value)]
        need(
            all(n and heads[0] % n == 0 for n in heads[1:]),
            f"the heads of key and value must divide those of the query, found {heads}",
        )
    _check_mask(args, query, key)


def _check_mask(args: dict[str, Any], query: torch.Tensor, key: torch.Tensor) -> None:
    mask = args.get("attn_mask")
    if mask is None:
        return
    dtypes = (torch.bool, torch.float32, query.dtype)
    need(mask.dtype in dtypes, f"a mask must be bool or {query.dtype}, found {mask.dtype}")
    need(mask.dim() >= 2, f"a mask needs at least 2 dimensions, found {mask.dim()}")
    shape = (query.shape[-2], key.shape[-2])
    last = mask.shape[-2:]
    need(_expands(last, shape), f"the mask is for {tuple(last)} positions, not {shape}")


@_check("eye")
def _eye(args: dict[str, Any]) -> None:
    for name in ("n", "m"):
        need(args.get(name, 0) >= 0, f"{name} must not be negative, found {args.get(name)}")
