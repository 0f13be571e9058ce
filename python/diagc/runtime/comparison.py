"""Compares a compiled program with eager torch: errors against float64."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.utils import _pytree as pytree

from diagc.errors import UserError

__all__ = [
    "Comparison",
    "compare",
    "compare_results",
    "compare_with",
    "max_error",
    "tensors_of",
]

# Our error may be this many times eager's before a result counts as wrong: two correct orders of
# summation differ by less, a wrong term by far more.
_ERROR_FACTOR = 4.0

# Eager may be exact by luck: so many units in the last place of the largest value are no error.
_ULPS = 8


# Where there is no eager result to compare with, so many units in the last place are granted.
_LONE_ULPS = 64


@dataclass(frozen=True)
class Comparison:
    """Largest absolute errors against the same program in float64."""

    error: float
    eager_error: float | None
    """Of eager torch in its own dtype; None for a diagram, which has no eager form."""
    floor: float
    """What rounding alone may cost: some units in the last place of the largest value."""
    reference: str
    """`float64`, or why eager's own dtype had to serve."""

    @property
    def allowed(self) -> float:
        """The largest error that counts as right."""
        return max(_ERROR_FACTOR * (self.eager_error or 0.0), self.floor)

    @property
    def equal(self) -> bool:
        """Whether the compiled result is as good as eager's."""
        return self.error <= self.allowed

    def text(self) -> str:
        """Give one line."""
        eager = "" if self.eager_error is None else f", eager {self.eager_error:.2e}"
        peer = "the reference" if self.eager_error is None else "eager"
        verdict = f"equal to {peer}" if self.equal else f"DIFFERS FROM {peer.upper()}"
        return f"max error {self.error:.2e}{eager}, against {self.reference}: {verdict}"


def tensors_of(result: Any) -> list[torch.Tensor]:
    """The tensors of a nested value, in order."""
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def compare(
    function: Callable[..., Any], compiled: Callable[..., Any], inputs: tuple[Any, ...]
) -> Comparison:
    """Run all three on `inputs` and compare every tensor of the results.

    Raises:
        UserError: eager torch refuses the inputs, or there is no tensor to compare.
    """
    with torch.no_grad():
        eager = _eager(function, inputs)
        return compare_results(function, inputs, eager, tensors_of(compiled(*inputs)))


def compare_results(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    eager: list[torch.Tensor],
    ours: list[torch.Tensor],
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    pick: Callable[[Any], list[torch.Tensor]] = tensors_of,
) -> Comparison:
    """Compare results of `function` with its own, both against float64; it runs once more.

    Args:
        function: what was compiled.
        inputs: positional arguments of the call.
        eager: the function's tensors.
        ours: the compiled program's.
        kwargs: keyword arguments of the call.
        pick: takes the tensors out of what the function gives.
    """
    with torch.no_grad():
        reference, kind = _reference(function, inputs, eager, kwargs, pick)
    ulps = _LONE_ULPS if reference is eager else _ULPS  # nothing tells what eager is off by
    return Comparison(
        error=_largest(ours, reference),
        eager_error=_largest(eager, reference),
        floor=max((_rounding_floor(tensor, ulps) for tensor in eager), default=0.0),
        reference=kind,
    )


def _eager(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        results = tensors_of(function(*inputs))
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} fails on the example inputs: {reason}") from error
    if not results:
        raise UserError(f"{name} gives nothing to compare", expected="a tensor among its results")
    return results


def max_error(actual: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest absolute difference where the reference is finite; infinite for another shape.

    A reference of NaN or infinity says nothing: eager gives NaN for rows that are masked out whole,
    where diagc gives zeros.
    """
    if actual.shape != reference.shape:
        return math.inf
    if not reference.is_floating_point():
        return float((actual != reference).sum().item())
    exact = reference.double()
    finite = exact.isfinite()
    difference = (actual.double() - exact)[finite].abs()
    if difference.isnan().any():
        return math.inf
    return float(difference.max().item()) if difference.numel() else 0.0


def compare_with(reference: list[torch.Tensor], results: list[torch.Tensor]) -> Comparison:
    """Compare results with a reference in float64."""
    floor = max((_rounding_floor(tensor, _LONE_ULPS) for tensor in results), default=0.0)
    return Comparison(_largest(results, reference), None, floor, "float64")


def _largest(actual: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    if len(actual) != len(reference):
        return math.inf
    return max(map(max_error, actual, reference), default=0.0)


def _rounding_floor(result: torch.Tensor, ulps: int) -> float:
    if not result.is_floating_point() or not result.numel():
        return 0.0
    magnitude = result.double().nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    return float(ulps * torch.finfo(result.dtype).eps * magnitude)


def _reference(
    function: Callable[..., Any],
    inputs: tuple[Any, ...],
    eager: list[torch.Tensor],
    kwargs: Mapping[str, Any],
    pick: Callable[[Any], list[torch.Tensor]],
) -> tuple[list[torch.Tensor], str]:
    """Run `function` in float64; a program that insists on its own dtype is its own reference."""
    try:
        wide = _double(copy.deepcopy(function))
        args, named = pytree.tree_map(_double, (inputs, dict(kwargs)))
        return pick(wide(*args, **named)), "float64"
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        return eager, f"eager in its own dtype (float64 failed: {reason})"


def _double(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return value.double() if isinstance(value, torch.nn.Module) else value
