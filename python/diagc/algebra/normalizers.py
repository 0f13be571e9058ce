"""The table of normalisers: each row is data, and the passes know no row by name.

A normaliser maps a row x (all positions along the normalised axes, n of them) to

    N(x)_i = a(x_i) / b(z_1 ... z_k),      z_k = sum_j s_k(x_j)   (or the maximum, or the minimum)

with scalar functions a, s_k and b, which may also use n (at least 1) and parameters, wires without
the normalised axes. How it is computed without overflow is derived from these terms alone
(`stable_form`). Source: normalised contractions (arXiv 2505.09326).

Policies that hold for every row. A position that `keep` excludes gives the identity to every
statistic and 0 in the result; n still counts it. A row whose aggregate b is zero (all excluded, or
all s_k zero) gives zeros; NaN inputs propagate. Statistics are kept in f32, f64 for f64 operands.
`eps` is added to the statistic as it is kept: where a running maximum is subtracted and cancels in
the result, it is small beside statistics of elements below that maximum.
"""

from dataclasses import dataclass
from functools import cached_property

from diagc.algebra.expressions import (
    absolute,
    constant,
    exp,
    maximum,
    sqrt,
    symbol,
    symbols,
    text,
)
from diagc.algebra.stable_form import Formula, StableForm, Statistic, derive_form
from diagc.dialects import diag

__all__ = ["BUILT_IN", "NORMALIZERS", "Normalizer", "find", "register", "rows_text", "unregister"]


@dataclass(frozen=True)
class Normalizer:
    """One row of the table.

    Args:
        name: what `diag.normalize` calls it.
        formula: the functions a, s_k and b.
        parameters: axes of each parameter, by name, in the order of the operands.
    """

    name: str
    formula: Formula
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @cached_property
    def form(self) -> StableForm:
        """How it is computed; derived once."""
        return derive_form(self.formula)

    def needs_size(self) -> bool:
        """Whether a term depends on n."""
        return "n" in set().union(*map(symbols, self.form.terms()))

    def text(self) -> str:
        """All that the row means, as canonical text: what cached programs are known by."""
        formula = self.formula
        statistics = [f"{s.kind} {text(s.term)}" for s in formula.statistics]
        terms = [text(formula.numerator), *statistics, text(formula.aggregate)]
        axes = [f"{name}: {' '.join(labels)}" for name, labels in self.parameters]
        return " | ".join((self.name, str(formula.centred), *terms, *axes))


def _rows() -> tuple[Normalizer, ...]:
    x, z, n = symbol("x"), symbol("z"), symbol("n")
    square = Statistic("add", x * x)
    relu = maximum(x, 0.0)
    formulas = {
        "softmax": Formula(exp(x), (Statistic("add", exp(x)),), z),
        "l2": Formula(x, (square,), sqrt(z)),
        "l1": Formula(x, (Statistic("add", absolute(x)),), z),
        "relu-sum": Formula(relu, (Statistic("add", relu),), z),
        "sigmoid": Formula(constant(1.0) / (1.0 + exp(-x))),
        "none": Formula(x),
        "rms": Formula(x, (square,), sqrt(z / n)),
        "layer": Formula(x, (square,), sqrt(z / n), centred=True),
    }
    return tuple(Normalizer(name, formula) for name, formula in formulas.items())


NORMALIZERS: dict[str, Normalizer] = {row.name: row for row in _rows()}
BUILT_IN = frozenset(NORMALIZERS)


def find(name: str) -> Normalizer:
    """The row called `name`.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    if name not in NORMALIZERS:
        raise KeyError(f"no normaliser '{name}'; known: {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def register(row: Normalizer, *, replace: bool = False) -> Normalizer:
    """Add a row to the table and make its name legal in `diag.normalize`.

    Args:
        row: the row.
        replace: whether a row that was registered before may be replaced.

    Raises:
        ValueError: the name is taken.
    """
    if row.name in BUILT_IN or (row.name in NORMALIZERS and not replace):
        raise ValueError(f"normaliser '{row.name}' exists already")
    NORMALIZERS[row.name] = row
    diag.register_kind(row.name, dict(row.parameters))
    return row


def unregister(name: str) -> None:
    """Remove a row that was registered.

    Raises:
        KeyError: there is none, or it is built in.
    """
    if name in BUILT_IN or name not in NORMALIZERS:
        raise KeyError(f"no normaliser '{name}' was registered")
    del NORMALIZERS[name]
    diag.unregister_kind(name)


def rows_text(module_text: str) -> str:
    """The meaning of the registered rows that a module's text names, one a line."""
    used = (row for name, row in sorted(NORMALIZERS.items()) if name not in BUILT_IN)
    return "\n".join(row.text() for row in used if f'"{row.name}"' in module_text)
