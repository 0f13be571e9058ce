"""The stream of a normaliser as a short proof: state, init, body, correction, tail.

The corrections are proved by the laws that the compiler derives streams by (`laws`): a sum of
functions of x and of the reference c follows c when moving it multiplies every term by one factor.
"""

from dataclasses import dataclass

from diagc.algebra import laws
from diagc.algebra.expressions import Expr, constant, show, substitute, symbol, symbols
from diagc.algebra.normalizers import Normalizer
from diagc.errors import UnsupportedError

__all__ = ["Derivation", "derivation"]

_WORDS = {"add": "sum", "max": "max", "min": "min"}
_INIT = {"add": "0", "max": "-inf", "min": "inf"}


@dataclass(frozen=True)
class Derivation:
    """How a normaliser is computed chunk by chunk; `str` gives all of it as text.

    Args:
        name: of the normaliser.
        definition: what it means.
        law: why c may be subtracted.
        state: names of what is carried along.
        init: the state before the first element.
        body: the state after one more element x.
        correction: what a change of c does to each statistic.
        tail: the result of element x from the state.
        proved: the identities that the corrections rest on.
    """

    name: str
    definition: str
    law: str
    state: tuple[str, ...]
    init: tuple[str, ...]
    body: tuple[str, ...]
    correction: tuple[str, ...]
    tail: str
    proved: tuple[str, ...]

    def __str__(self) -> str:
        """The proof, one part a line."""
        parts = {
            "law": (self.law,),
            "state": (", ".join(self.state) or "none",),
            "init": (", ".join(self.init) or "nothing",),
            "body": self.body or ("nothing: each element alone",),
            "correction": self.correction or ("none: no statistic depends on another",),
            "tail": (self.tail,),
            "proved": self.proved or ("sums are additive over any split of the row",),
        }
        lines = [self.definition]
        for part, texts in parts.items():
            lines += [f"  {part if not k else '':<11} {text}" for k, text in enumerate(texts)]
        return "\n".join(lines)


def derivation(row: Normalizer) -> Derivation:
    """Derive the stream of a row.

    Raises:
        UnsupportedError: a statistic follows the reference by no factor.
    """
    form, names = row.form, row.form.formula.names()
    factors = [_factor(row, s.term) for s in form.statistics]
    letter = {"max": "m", "add": "s"}.get(form.kind or "", "")
    reference = () if form.kind is None else ((letter, form.kind, form.reference),)
    sums = tuple((n, s.kind, s.term) for n, s in zip(names, form.statistics, strict=True))
    if form.kind == "add":  # the mean is a stream of its own, before the others
        factors = [constant(1.0)] * len(factors)
    body = [_step(name, kind, term, None) for name, kind, term in reference]
    if form.kind is not None:
        body.append(f"c' = {show(substitute(form.shift, {'m': symbol(letter + chr(39))}))}")
    steps = zip(sums, factors, strict=True)
    body += [_step(n, kind, _primed(term), factor) for (n, kind, term), factor in steps]
    return Derivation(
        row.name,
        f"{row.name}(x) = {_quotient(form.formula.numerator, _definition(row))}",
        _law(row),
        tuple(name for name, _, _ in (*reference, *sums)),
        tuple(f"{name} = {_INIT[kind]}" for name, kind, _ in (*reference, *sums)),
        tuple(body),
        tuple(
            f"{n} by {show(_primed_pair(f))}"
            for n, f in zip(names, factors, strict=True)
            if _moves(f)
        ),
        _quotient(form.numerator, form.aggregate()),
        tuple(_identities(row, factors)),
    )


def _factor(row: Normalizer, term: Expr) -> Expr:
    """What multiplies a sum of `term` when c becomes its new value."""
    if "c" not in symbols(term) or row.form.kind == "add":
        return constant(1.0)
    factor = laws.scale(term, ["c"], ["x"])
    if factor is None or not laws.is_safe(factor, ["c"]):
        raise UnsupportedError(
            f"normaliser {row.name}",
            reason=f"no factor lets the sum of {show(term)} follow a change of c",
        )
    return factor


def _moves(factor: Expr) -> bool:
    return factor != constant(1.0)


def _primed(term: Expr) -> Expr:
    return substitute(term, {"c": symbol("c'")})


def _primed_pair(factor: Expr) -> Expr:
    return substitute(factor, {"c" + laws.NEW: symbol("c'")})


def _step(name: str, kind: str, term: Expr, factor: Expr | None) -> str:
    if kind != "add":
        return f"{name}' = {kind}({name}, {show(term)})"
    moved = "" if factor is None or not _moves(factor) else f" * {show(_primed_pair(factor), 2)}"
    return f"{name}' = {name}{moved} + {show(term, 1)}"


def _definition(row: Normalizer) -> Expr:
    formula = row.form.formula
    sums = {
        name: symbol(f"{_WORDS[s.kind]}({show(s.term)})")
        for name, s in zip(formula.names(), formula.statistics, strict=True)
    }
    return substitute(formula.aggregate, sums)


def _quotient(top: Expr, bottom: Expr) -> str:
    return show(top) if bottom == constant(1.0) else show(top / bottom)


def _law(row: Normalizer) -> str:
    form = row.form
    if form.kind is None:
        return "additive state: plain sums, and division by what is constant along the row"
    if form.kind == "add":
        return "the mean c is subtracted first, by a stream of its own"
    why = "shift lemma: c cancels in the result" if form.cancels() else "range lemma"
    return f"{why}; m = max({show(form.reference)}), c = {show(form.shift)}"


def _identities(row: Normalizer, factors: list[Expr]) -> list[str]:
    found = []
    for statistic, factor in zip(row.form.statistics, factors, strict=True):
        if _moves(factor):
            moved = f"{show(_primed_pair(factor), 2)} * {show(statistic.term, 2)}"
            found.append(f"{show(_primed(statistic.term))} = {moved} for all x, c, c'")
    return list(dict.fromkeys(found))
