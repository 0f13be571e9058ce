"""Analysis: masks and offsets of positions as linear forms; answers without changing anything.

A mask such as `x <= q + 3 and q < x + 8` is a conjunction of conditions `form >= 0`, each linear in
the positions along named axes. Integers that a mask reads, as in `first[q] <= x`, are terms too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from diagc.dialects import diag
from diagc.mlir import arith, ir

__all__ = [
    "Conjunction",
    "Linear",
    "linear_form",
    "mask_conditions",
    "read_conditions",
    "unequal_form",
]


@dataclass(frozen=True)
class Linear:
    """`constant + sum of factor * position`; factors by axis label, none of them 0.

    `reads` are further terms, of integers that the body of a map reads: results of `diag.element`.
    """

    factors: tuple[tuple[str, int], ...] = ()
    constant: int = 0
    reads: tuple[tuple[ir.Value, int], ...] = ()

    @classmethod
    def of(cls, factors: Mapping[str, int], constant: int) -> "Linear":
        """The form with these factors; zeros are dropped."""
        return cls(tuple(sorted((k, v) for k, v in factors.items() if v)), constant)

    def factor(self, label: str) -> int:
        """The factor of an axis, 0 where the form does not depend on it."""
        return dict(self.factors).get(label, 0)

    def without(self, label: str) -> "Linear":
        """The form with the position along an axis taken as 0."""
        kept = tuple(pair for pair in self.factors if pair[0] != label)
        return Linear(kept, self.constant, self.reads)

    def __add__(self, other: "Linear") -> "Linear":
        """The sum."""
        labels = {label for label, _ in self.factors + other.factors}
        factors = {label: self.factor(label) + other.factor(label) for label in labels}
        total = Linear.of(factors, self.constant + other.constant)
        return replace(total, reads=self.reads + other.reads)

    def scaled(self, by: int) -> "Linear":
        """The form times a number."""
        product = Linear.of({k: v * by for k, v in self.factors}, self.constant * by)
        return replace(product, reads=tuple((read, v * by) for read, v in self.reads))

    def __str__(self) -> str:
        """Give a formula, as `q - x + 1`."""
        terms = [
            f"{v}*{k}" if abs(v) != 1 else f"{'-' if v < 0 else ''}{k}" for k, v in self.factors
        ]
        read = [f"{'-' if v < 0 else ''}{k.get_name()}" for k, v in self.reads]
        return " + ".join([*terms, *read, str(self.constant)])


@dataclass(frozen=True)
class Conjunction:
    """`form >= 0` for every form; `exact` when the mask says nothing else."""

    forms: tuple[Linear, ...]
    exact: bool

    def __str__(self) -> str:
        """Give the conditions, with `and ...` where something else is asked too."""
        text = " and ".join(f"{form} >= 0" for form in self.forms)
        return text if self.exact else f"{text} and ..."


# ---- integers ----------------------------------------------------------------------------------

_CASTS = ("arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui", "arith.trunci")
"""Positions fit any type that they are cast to."""


def linear_form(value: ir.Value) -> Linear | None:
    """The linear form of a wire of positions, or None: an index, a chunk of one, a map of them."""
    if isinstance(value.owner, ir.Block):
        return None
    op = value.owner.operation
    if op.name == "diag.index":
        return Linear(((ir.StringAttr(op.attributes["axis"]).value, 1),))
    if op.name == "diag.chunk":
        return linear_form(op.operands[0])
    if op.name == "diag.map":
        form = _scalar_form(_yielded(op))
        return None if form is None or form.reads else form
    return None


def _yielded(op: ir.Operation) -> ir.Value:
    return list(op.regions[0].blocks[0].operations)[-1].operation.operands[0]


def _scalar_form(value: ir.Value) -> Linear | None:
    """The linear form of an integer scalar inside a map body."""
    op = value.owner.operation
    if op.name == "arith.constant":
        attr = op.attributes["value"]
        return Linear((), attr.value) if isinstance(attr, ir.IntegerAttr) else None
    if op.name == "diag.element":
        return linear_form(op.operands[0]) or _read_form(value)
    if op.name in _CASTS:
        form = _scalar_form(op.operands[0])
        return None if form is not None and form.reads and not _keeps_sign(op) else form
    combine = _BINARY.get(op.name)
    if combine is None:
        return None
    lhs, rhs = (_scalar_form(operand) for operand in op.operands)
    if lhs is None or rhs is None or lhs.reads or rhs.reads:  # sums with data may overflow
        return None
    return combine(lhs, rhs)


def _read_form(element: ir.Value) -> Linear | None:
    """An integer that is data, as positions are given."""
    is_number = isinstance(element.type, ir.IntegerType) and element.type.width >= 32
    return Linear(reads=((element, 1),)) if is_number else None


def _keeps_sign(cast: ir.Operation) -> bool:
    """Whether a cast holds every integer as it is."""
    if cast.name == "arith.index_cast":
        return isinstance(cast.results[0].type, ir.IndexType)
    return bool(cast.name == "arith.extsi")


def _product(lhs: Linear, rhs: Linear) -> Linear | None:
    if not lhs.factors:
        return rhs.scaled(lhs.constant)
    return None if rhs.factors else lhs.scaled(rhs.constant)


_BINARY: dict[str, Callable[[Linear, Linear], Linear | None]] = {
    "arith.addi": lambda lhs, rhs: lhs + rhs,
    "arith.subi": lambda lhs, rhs: lhs + rhs.scaled(-1),
    "arith.muli": _product,
}


# ---- conditions --------------------------------------------------------------------------------

# predicate of lhs, rhs -> forms that are >= 0 exactly when it holds
_COMPARE: dict[int, Callable[[Linear, Linear], tuple[Linear, ...]]] = {
    arith.CmpIPredicate.eq: lambda lhs, rhs: (lhs + rhs.scaled(-1), rhs + lhs.scaled(-1)),
    arith.CmpIPredicate.sge: lambda lhs, rhs: (lhs + rhs.scaled(-1),),
    arith.CmpIPredicate.sgt: lambda lhs, rhs: (lhs + rhs.scaled(-1) + Linear((), -1),),
    arith.CmpIPredicate.sle: lambda lhs, rhs: (rhs + lhs.scaled(-1),),
    arith.CmpIPredicate.slt: lambda lhs, rhs: (rhs + lhs.scaled(-1) + Linear((), -1),),
}


def mask_conditions(op: ir.Operation) -> Conjunction | None:
    """The conditions of a map that yields i1, or None when not even a part of it is linear."""
    found, exact = _all_conditions(op)
    forms = tuple(form for form in found if not form.reads)
    return Conjunction(forms, exact and len(forms) == len(found)) if forms else None


def read_conditions(op: ir.Operation) -> tuple[Linear, ...]:
    """Conditions, all necessary, that compare positions with integers that the map `op` reads."""
    forms, _ = _all_conditions(op)
    return tuple(form for form in forms if form.reads and form.factors)


def _all_conditions(op: ir.Operation) -> tuple[tuple[Linear, ...], bool]:
    if op.name != "diag.map" or str(diag.element_type(op.results[0])) != "i1":
        return (), False
    return _conditions(_yielded(op))


def unequal_form(op: ir.Operation) -> Linear | None:
    """The form that must not be 0, of a map that yields that two positions are not equal."""
    if op.name != "diag.map" or str(diag.element_type(op.results[0])) != "i1":
        return None
    compared = _yielded(op).owner.operation
    if compared.name != "arith.cmpi":
        return None
    if ir.IntegerAttr(compared.attributes["predicate"]).value != arith.CmpIPredicate.ne:
        return None
    lhs, rhs = (_scalar_form(operand) for operand in compared.operands)
    form = None if lhs is None or rhs is None else lhs + rhs.scaled(-1)
    return None if form is None or form.reads else form


def _conditions(value: ir.Value) -> tuple[tuple[Linear, ...], bool]:
    op = value.owner.operation
    if op.name == "arith.andi":
        (first, one), (second, two) = (_conditions(operand) for operand in op.operands)
        return first + second, one and two
    if op.name == "diag.element":
        source = op.operands[0]
        inner = None if isinstance(source.owner, ir.Block) else source.owner.operation
        if inner is not None and inner.name == "diag.map":
            return _conditions(_yielded(inner))
    if op.name != "arith.cmpi":
        return (), False
    compare = _COMPARE.get(ir.IntegerAttr(op.attributes["predicate"]).value)
    lhs, rhs = (_scalar_form(operand) for operand in op.operands)
    if compare is None or lhs is None or rhs is None:
        return (), False
    return compare(lhs, rhs), True
