"""Replace `diag.normalize` by the maps and reductions that it stands for.

Before:

    %y = "diag.normalize"(%x) {along = ["x"], kind = "softmax"}

After (the other rows of the table differ only in their scalar functions):

    %m = "diag.reduce"(%x) {over = ["x"], kind = "max"}
    %c = "diag.map"() ({ select(m == -inf, 0, m) })
    %e = "diag.map"() ({ exp(x - c) })
    %z = "diag.reduce"(%e) {over = ["x"], kind = "add"}
    %r = "diag.map"() ({ select(z == 0, 0, 1 / z) })
    %y = "diag.map"() ({ e * r })

Requires: nothing; run on functions. Any axes, any float type, `keep` and `eps` as the op has them.
Statistics are computed in f32, in f64 for f64 operands. Rows that are empty or whose statistic is 0
give 0; option `empty-rows=eager`: what the formula gives, NaN for softmax.

Declines: nothing; every row of the table (`algebra/normalizers.py`) expands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from diagc.algebra import normalizers
from diagc.algebra.expressions import (
    Expr,
    constant,
    divide,
    maximum,
    replace,
    select,
    substitute,
    symbol,
)
from diagc.algebra.maps import full, map_expr, statistic_type
from diagc.algebra.normalizers import Normalizer
from diagc.dialects import diag
from diagc.errors import InternalError
from diagc.mlir import ir
from diagc.passes.base import Pass

__all__ = ["ExpandNormalizersPass"]

EMPTY_ROWS = ("zero", "eager")


@dataclass(frozen=True)
class ExpandNormalizersPass(Pass):
    """replace diag.normalize by the maps and reductions that it stands for."""

    name: ClassVar[str] = "expand-normalizers"
    empty_rows: str = "zero"

    def __post_init__(self) -> None:
        """Check the option.

        Raises:
            PassError: it has another value.
        """
        self.check_choice("empty_rows", EMPTY_ROWS)

    def run(self, op: ir.Operation) -> None:
        """Expand every normaliser below `op`."""
        found = [nested for region in op.regions for nested in diag.walk_ops(region)]
        for nested in found:
            if nested.name in diag.NORMALIZER_OPS:
                with ir.InsertionPoint(nested), nested.location:
                    result = _Expansion(nested, self.empty_rows == "zero").result()
                nested.results[0].replace_all_uses_with(result)
                nested.erase()


class _Expansion:
    """The ops that replace one `diag.normalize`, built at the ambient insertion point."""

    def __init__(self, op: ir.Operation, guarded: bool) -> None:
        self.op = op
        self.guarded = guarded
        self.row: Normalizer = normalizers.find(op.attributes["kind"].value)
        self.form = self.row.form
        self.over = diag.strings(op.attributes["along"])
        self.type = statistic_type(diag.element_type(op.operands[0]))
        self.dims = diag.dims(op.operands[0])
        self.wires: dict[str, ir.Value] = {"x": op.operands[0]}
        keep = diag.mask_of(op)
        if keep is not None:
            self.wires["keep"] = keep
        names = (name for name, _ in self.row.parameters)
        self.wires |= dict(zip(names, diag.parameters_of(op), strict=True))
        self.size = self._size() if self.row.needs_size() else constant(1.0)

    # ---- the parts, in order ------------------------------------------------------------------

    def result(self) -> ir.Value:
        """The normalised wire."""
        out = self.op.results[0]
        x = self._referred()
        term = self._with(self.form.numerator, x)
        numerator = self._masked(term)
        if not self._divides():
            return self._map(numerator, diag.dims(out), diag.element_type(out))
        self.wires["e"] = self._map(numerator, self.dims)
        for name, statistic in zip(self.form.formula.names(), self.form.statistics, strict=True):
            summand = replace(self._with(statistic.term, x), term, symbol("e"))
            if summand != symbol("e") or statistic.kind != "add":  # else it is masked already
                summand = self._masked(summand, _identity(statistic.kind))
            terms = self._map(summand, self.dims)
            self.wires[name] = diag.reduce(terms, self.over, statistic.kind)
        self.wires["r"] = self._map(self._reciprocal())
        return self._map(symbol("e") * symbol("r"), diag.dims(out), diag.element_type(out))

    def _divides(self) -> bool:
        return bool(self.form.statistics) or self.form.aggregate() != constant(1.0)

    def _referred(self) -> Expr:
        """The element that a and the s_k apply to; the reference c is computed here."""
        form, x = self.form, symbol("x")
        if "keep" in self.wires and form.excluded is not None:
            x = select(symbol("keep"), x, form.excluded)
        if form.kind is None:
            return x
        if form.kind == "add" or form.excluded is not None:
            self.wires["x"] = self._map(self._masked(x, _identity(form.kind)), self.dims)
            x = symbol("x")
        reference = self._masked(self._with(form.reference, x), _identity(form.kind))
        self.wires["m"] = diag.reduce(self._map(reference, self.dims), self.over, form.kind)
        plain = not self.guarded and form.kind == "max" and form.cancels()
        self.wires["c"] = self._map(symbol("m") if plain else self._with(form.shift, x))
        return x

    def _with(self, expr: Expr, x: Expr) -> Expr:
        """A term of the row, with the masked element and the size of the row put in."""
        return substitute(expr, {"x": x, "n": self.size})

    def _reciprocal(self) -> Expr:
        """1 / b(z), by the policy for rows without mass."""
        attributes = self.op.attributes
        eps = constant(attributes["eps"].value) if "eps" in attributes else None
        place = attributes["eps_place"].value if "eps_place" in attributes else "inside"
        b = self._with(self.form.aggregate(eps, place), symbol("x"))
        return divide(1.0, b) if self.guarded else 1.0 / b

    # ---- helpers ------------------------------------------------------------------------------

    def _masked(self, expr: Expr, value: float = 0.0) -> Expr:
        """`expr` where kept, unless an element value already stands for what is excluded."""
        if "keep" not in self.wires or self.form.excluded is not None:
            return expr
        return select(symbol("keep"), expr, value)

    def _map(
        self, expr: Expr, result: Mapping[str, int] | None = None, dtype: ir.Type | None = None
    ) -> ir.Value:
        return map_expr(expr, self.wires, self.type, dtype=dtype, result=result)

    def _size(self) -> Expr:
        """The number of positions of a row, at least 1; wires are made for dynamic axes."""
        known = [self.dims[axis] for axis in self.over if self.dims[axis] != diag.DYNAMIC]
        size = constant(prod(max(1, n) for n in known))
        for axis in self.over:
            if self.dims[axis] == diag.DYNAMIC:
                self.wires[f"n_{axis}"] = self._count(axis)
                size = symbol(f"n_{axis}") if size == constant(1.0) else size * symbol(f"n_{axis}")
        return size

    def _count(self, axis: str) -> ir.Value:
        """The size of a dynamic axis, at least 1, as a sum of ones."""
        ones = full(1.0, {axis: diag.DYNAMIC}, self.type)
        count = diag.reduce(ones, [axis], "add")
        return map_expr(maximum(symbol("n"), 1.0), {"n": count}, self.type)


def _identity(kind: str) -> float:
    identity = diag.MONOIDS[kind].float_identity
    if identity is None:
        raise InternalError(f"reduction '{kind}' has no identity for floats")
    return identity
