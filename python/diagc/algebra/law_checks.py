"""Numbers against a user's law: the derived form and the user's reference on random rows.

Rows hold elements of sizes 0.3 to 1e4. The formula itself is computed in the widest floats of the
machine, with a margin for what rounding of the elements alone may change.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from diagc.algebra.direct import Request, compute, direct, numpy_library, wide
from diagc.algebra.normalizers import Normalizer
from diagc.errors import UnsupportedError, UserError

__all__ = ["ROWS", "check_form", "check_reference"]

Array: TypeAlias = npt.NDArray[Any]
Reference: TypeAlias = Callable[..., Any]

_SIZES = (1, 2, 7, 32)
_SCALES = (0.3, 3.0, 30.0, 1e4)
ROWS = len(_SIZES) * len(_SCALES)
_TOLERANCE = {np.float64: 1e-9, np.float32: 1e-3}
_NUDGE = {np.float64: 1e-14, np.float32: 1e-6}


def _requests(row: Normalizer, scales: tuple[float, ...]) -> Iterator[tuple[Request, float]]:
    """One row of random elements and parameters each, and the size of the elements."""
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    for scale in scales:
        for size in _SIZES:
            x = np.clip(scale * rng.standard_normal(size), -_SCALES[-1], _SCALES[-1])
            parameters = {name: rng.uniform(0.5, 2.0, 1) for name, _ in row.parameters}
            yield Request(x, (0,), parameters), scale


def check_form(row: Normalizer) -> None:
    """See that the derived form stays in range in f32, and agrees with the formula.

    Raises:
        UnsupportedError: it does not; the row is shown.
    """
    for dtype in (np.float32, np.float64):
        for request, scale in _requests(row, _SCALES):
            _check_row(row, _rounded(request, dtype), scale, dtype)


def _rounded(request: Request, dtype: Any) -> Request:
    parameters = {name: p.astype(dtype) for name, p in request.parameters.items()}
    return Request(request.x.astype(dtype), request.along, parameters)


def _check_row(row: Normalizer, request: Request, scale: float, dtype: Any) -> None:
    wanted, margin = _expected(row, request, dtype)
    with np.errstate(all="ignore"):
        found, below, above = compute(row.form, request, numpy_library(dtype))
    name = np.dtype(dtype).name
    if not np.isfinite(below).all():
        raise _out_of_range(row, request, f"an aggregate in the range of {name}", below, scale)
    if not np.isfinite(found).all():
        raise _out_of_range(row, request, "a finite result", found, scale)
    tiny = 1e3 * float(np.finfo(dtype).tiny)
    underflow = float(np.abs(below).max()) < tiny
    above = np.maximum(np.abs(above), np.abs(wide(row, request)[2]))
    if underflow and float(above.max()) > tiny:  # else the whole row is too small for floats
        raise _out_of_range(row, request, f"an aggregate in the range of {name}", below, scale)
    known = np.isfinite(wanted).all()  # else even the widest floats are too narrow
    if known and not underflow and (np.abs(found - wanted) > margin).any():
        raise _out_of_range(row, request, wanted, found, scale)


def _expected(row: Normalizer, request: Request, dtype: Any) -> tuple[Array, Array]:
    """The row by its formula, and how far a result may be from it."""
    wanted = direct(row, request)
    x = request.x.astype(np.float64)
    signs = np.where(np.arange(x.size) % 2, 1.0, -1.0)
    moved = [
        direct(row, Request(x * (1.0 + side * _NUDGE[dtype]), (0,), request.parameters))
        for side in (1.0, -1.0, signs)
    ]
    with np.errstate(all="ignore"):
        spread = np.max([np.abs(m - wanted) for m in moved], axis=0).max()
        largest = np.abs(wanted).max()
    return wanted, np.asarray(_TOLERANCE[dtype] * largest + 30.0 * spread + 1e-30)


def _out_of_range(
    row: Normalizer, request: Request, expected: Any, found: Any, scale: float
) -> UnsupportedError:
    return UnsupportedError(
        f"normaliser {row.name}",
        reason=f"its form {_definition(row)} leaves the range of floats, or loses all digits, for "
        f"elements of size {scale:g}: expected {_shown(expected)}, found {_shown(found)}; "
        f"{_row_note(request)}",
        remedy="write exponentials as factors of the numerator and of the statistics, and use the "
        "aggregate for sums, products, powers and logarithms of them",
    )


def _definition(row: Normalizer) -> str:
    return f"{row.form.numerator} / ({row.form.aggregate()})"


def _row_note(request: Request) -> str:
    parameters = "".join(f", {n} = {float(p[0]):.6g}" for n, p in request.parameters.items())
    return f"row {_shown(request.x)}{parameters}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    more = ", ..." if numbers.size > 8 else ""
    return f"[{', '.join(f'{v:.9g}' for v in numbers[:8])}{more}]"


def check_reference(row: Normalizer, reference: Reference) -> None:
    """Compare the user's reference with the formula, on f64 rows of elements of size up to 3.

    Args:
        row: the law.
        reference: from a row, f64 of shape [n], and the parameters by name, to the result.

    Raises:
        UserError: it fails, gives another shape, or contradicts the law; the row is shown.
    """
    for request, _ in _requests(row, _SCALES[:2]):
        wanted, margin = _expected(row, request, np.float64)
        found = _referred(row, reference, request)
        if found.shape != wanted.shape:
            expected = f"an array of shape {list(wanted.shape)}"
            what = f"the reference of '{row.name}' gives no row"
            raise UserError(what, expected=expected, found=f"shape {list(found.shape)}")
        if not (np.abs(found - wanted) <= margin).all():
            raise UserError(
                f"the reference of '{row.name}' contradicts its law",
                expected=f"{_shown(wanted)} by the law",
                found=f"{_shown(found)} from the reference",
                notes=(_row_note(request),),
            )


def _referred(row: Normalizer, reference: Reference, request: Request) -> Array:
    parameters = {name: float(p[0]) for name, p in request.parameters.items()}
    try:
        return np.asarray(reference(request.x.copy(), **parameters), np.float64)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"the reference of '{row.name}' fails: {reason}",
            expected="a function of a row of shape [n] and the parameters by name",
            notes=(_row_note(request),),
        ) from error
