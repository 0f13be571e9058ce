"""The law of cascades: a summand of finite rank in the statistics that it uses.

A summand phi(x, s) = sum over k < r of g_k(x) h_k(s) streams: a few sums D_k of functions of x and
of s as it is now are kept, and when s becomes t

    D_k' = sum over l of R_kl(s, t) D_l          value = sum over k of w_k(s) D_k

R is a matrix of binomials for polynomials in s, a factor for exponentials, and both for what is
like x * exp(x); w collects what does not depend on x. Forms that keep digits come first. Sources:
Taylor's theorem for exponential polynomials; rank one is the shift lemma (arXiv 2505.09326).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diagc.algebra.expressions import Expr, call, constant, substitute, symbol

__all__ = ["MOST_SUMS", "Form", "coefficient", "decoded", "encoded", "factor_name", "mapped"]

MOST_SUMS = 6
"""The bound: a summand of higher rank, or that needs more sums, is refused."""


@dataclass(frozen=True)
class Form:
    """Sums that let the sum of a summand follow the statistics that it uses.

    Args:
        terms: what is summed, over elements and statistics as they are now.
        factors: what moves read: factors and differences over old statistics and, with suffix
            `laws.NEW`, new ones.
        moves: for every sum, the sums that make it up when the statistics move, each with its
            coefficient over `factor_name(0)` ...
        weights: how much each sum counts in the value, over statistics as they are now.
    """

    terms: tuple[Expr, ...]
    factors: tuple[Expr, ...]
    moves: tuple[tuple[tuple[int, Expr], ...], ...]
    weights: tuple[Expr, ...]

    def is_plain(self) -> bool:
        """Whether the value is the first sum, which sums the summand itself."""
        return self.weights == (constant(1.0), *[constant(0.0)] * (len(self.terms) - 1))


def factor_name(number: int) -> str:
    """The symbol of a factor in coefficients."""
    return f"f{number}"


def encoded(forms: Sequence[Form]) -> Expr:
    """The forms as one term, so that a proof of them can be kept as text."""
    return Expr("forms", tuple(map(_encoded, forms)))


def _encoded(form: Form) -> Expr:
    rows = []
    for row in form.moves:
        moves = (Expr("move", (constant(source), coefficient)) for source, coefficient in row)
        rows.append(Expr("row", tuple(moves)))
    parts = (form.terms, form.factors, rows, form.weights)
    return Expr("form", tuple(Expr("list", tuple(part)) for part in parts))


def decoded(forms: Expr) -> list[Form]:
    """The inverse of `encoded`."""
    return [_decoded(form) for form in forms.args]


def _decoded(form: Expr) -> Form:
    terms, factors, rows, weights = (part.args for part in form.args)
    moves = tuple(
        tuple((int(float(move.args[0].value or 0.0)), move.args[1]) for move in row.args)
        for row in rows
    )
    return Form(terms, factors, moves, weights)


def mapped(form: Form, terms: Iterable[Expr], values: dict[str, Expr]) -> Form:
    """The form with other terms, and with symbols of factors and weights replaced."""
    factors = tuple(substitute(factor, values) for factor in form.factors)
    weights = tuple(substitute(weight, values) for weight in form.weights)
    return Form(tuple(terms), factors, form.moves, weights)


def coefficient(numbers: Sequence[tuple[int, int]], scale: int | None, number: float) -> Expr:
    """A number times powers of factors, and once the factor `scale`.

    Args:
        numbers: factor and power.
        scale: a factor, or None.
        number: the number.
    """
    product: Expr | None = None
    for factor, power in numbers:
        for _ in range(power):
            step = symbol(factor_name(factor))
            product = step if product is None else product * step
    if product is None:
        product = constant(number)
    elif number != 1.0:
        product = product * number
    if scale is None:
        return product
    factor_symbol = symbol(factor_name(scale))
    return factor_symbol if product == constant(1.0) else call("mul", product, factor_symbol)
