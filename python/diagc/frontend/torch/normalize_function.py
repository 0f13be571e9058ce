"""`diagc.normalize`: any normaliser of the table on torch tensors, in eager and in compiled code.

In eager it is what the row means, by ordinary torch ops, so that autograd differentiates it. It is
one op to the importer, `diagc::normalize`, which becomes one `diag.normalize`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diagc.algebra.direct import Library, Request, compute
from diagc.algebra.normalizers import NORMALIZERS, Normalizer, find
from diagc.errors import UserError
from diagc.frontend.torch.promotion import compute_type

__all__ = ["normalize"]


def normalize(
    x: Tensor,
    name: str,
    dim: int = -1,
    keep: Tensor | None = None,
    *,
    eps: float = 0.0,
    eps_place: str = "inside",
    params: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Normalise along a dim by a normaliser that is built in or was registered.

    Args:
        x: floats, any shape; bf16 and f16 are computed in f32 and rounded once.
        name: of the normaliser.
        dim: the dim of a row.
        keep: bool, broadcasts against `x`; where it is false, an element counts in no statistic and
            becomes 0. A row whose aggregate is 0, such as one without elements, becomes 0.
        eps: added to the statistic.
        eps_place: "inside" its root, or "outside".
        params: the parameters of the normaliser; each broadcasts against `x` with size 1 at `dim`.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        UserError: no such normaliser, or tensors that do not fit.
    """
    row = _row(name)
    given = params or {}
    names = [parameter for parameter, _ in row.parameters]
    if set(given) != set(names):
        expected, found = (", ".join(n) or "none" for n in (names, given))
        raise UserError(f"wrong parameters for '{name}'", expected=expected, found=found)
    if not isinstance(x, Tensor) or not x.is_floating_point() or not x.dim():
        found = f"{x.dtype}, shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise UserError("nothing to normalise", expected="a float tensor with a dim", found=found)
    if not -x.dim() <= dim < x.dim():
        raise UserError("no such dim", expected=f"{-x.dim()} to {x.dim() - 1}", found=dim)
    number = isinstance(eps, int | float)
    if not number or not eps >= 0.0 or eps_place not in ("inside", "outside"):
        expected = "eps of at least 0, and eps_place inside or outside"
        raise UserError("bad eps", expected=expected, found=f"{eps}, {eps_place}")
    if keep is not None:
        _check_fits("keep", keep, x)
        if keep.dtype != torch.bool:
            raise UserError("'keep' is no mask", expected="torch.bool", found=str(keep.dtype))
    ordered = [torch.as_tensor(given[p]) for p in names]
    for parameter, value in zip(names, ordered, strict=True):
        _check_fits(parameter, value, x)
        padded = [1] * (x.dim() - value.dim()) + list(value.shape)
        if padded[dim] != 1:
            expected, found = f"size 1 at dim {dim}", f"shape {list(value.shape)}"
            raise UserError(f"'{parameter}' varies along rows", expected=expected, found=found)
    result: Tensor = torch.ops.diagc.normalize(x, name, dim, keep, eps, eps_place, ordered)
    return result


def _row(name: str) -> Normalizer:
    if name not in NORMALIZERS:
        expected = f"one of {', '.join(NORMALIZERS)}"
        raise UserError(f"no normaliser '{name}'", expected=expected)
    return find(name)


def _check_fits(name: str, value: Tensor, x: Tensor) -> None:
    padded = [1] * (x.dim() - value.dim()) + list(value.shape)
    if len(padded) > x.dim() or any(a not in (1, b) for a, b in zip(padded, x.shape, strict=True)):
        expected = f"a shape that broadcasts to {list(x.shape)}"
        raise UserError(f"'{name}' does not fit", expected=expected, found=f"{list(value.shape)}")


# ---- the op ------------------------------------------------------------------------------------


def _root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0: rows without elements must not make gradients NaN."""
    zero = x == 0
    return torch.where(zero, x, torch.sqrt(torch.where(zero, torch.ones_like(x), x)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": torch.abs,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "max": torch.maximum,
    "min": torch.minimum,
    "pow": torch.pow,
    "select": torch.where,
    "sin": torch.sin,
    "sqrt": _root,
    "tanh": torch.tanh,
}


def _reduce(kind: str, values: Tensor, axes: tuple[int, ...]) -> Tensor:
    if kind == "add":
        return values.sum(axes, keepdim=True)
    if 0 in values.shape:
        shape = [1 if i in axes else size for i, size in enumerate(values.shape)]
        return values.new_full(shape, -torch.inf if kind == "max" else torch.inf)
    return (torch.amax if kind == "max" else torch.amin)(values, axes, keepdim=True)


def _eager(
    x: Tensor,
    name: str,
    dim: int,
    keep: Tensor | None,
    eps: float,
    eps_place: str,
    params: Sequence[Tensor],
) -> Tensor:
    row, work = _row(name), compute_type(x.dtype)
    library = Library(
        _FUNCTIONS, _reduce, lambda v: torch.full((), v, dtype=work, device=x.device), Tensor.detach
    )
    names = (parameter for parameter, _ in row.parameters)
    values = {n: p.to(work) for n, p in zip(names, params, strict=True)}
    request = Request(x.to(work), (dim % x.dim(),), values, keep, eps, eps_place)
    result: Tensor = compute(row.form, request, library)[0]
    return result.to(x.dtype)


_LIBRARY = torch.library.Library("diagc", "DEF")
_LIBRARY.define(
    "normalize(Tensor x, str name, int dim, Tensor? keep, float eps, str eps_place, "
    "Tensor[] params) -> Tensor"
)
_LIBRARY.impl("normalize", _eager, "CompositeImplicitAutograd")
