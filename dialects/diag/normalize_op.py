"""The normaliser as one op: sugar for a row of the normaliser table (algebra)."""

from typing import Any, Optional

from diagc.dialects.diag.array_ops import check_distinct, check_has, check_result, is_float
from diagc.dialects.diag.dialect import DiagOp
from diagc.dialects.diag.types import VerifyError, dims, element_type, labels, strings
from diagc.mlir import ext, ir

__all__ = ["BUILTIN_KINDS", "EPS_PLACES", "NormalizeOp", "register_kind", "registered_kinds"]

EPS_PLACES = ("inside", "outside")

BUILTIN_KINDS = ("softmax", "l2", "l1", "relu-sum", "sigmoid", "none", "rms", "layer")

# The table of laws (diagc.algebra) registers its kinds here, so that the verifier can name them
# without the dialect importing the algebra above it.
_KINDS: list[str] = [*BUILTIN_KINDS]


def register_kind(kind: str) -> None:
    """Make `kind` a legal kind of `diag.normalize`."""
    if kind not in _KINDS:
        _KINDS.append(kind)


def registered_kinds() -> tuple[str, ...]:
    """All legal kinds."""
    return tuple(_KINDS)


class NormalizeOp(DiagOp, name="normalize", traits=[ext.Pure]):
    """Normalise `src` along the axes `along`; positions where `keep` is false are excluded.

    An excluded position gives the identity to every statistic and 0 in the result. `eps` is added
    to the statistic, `inside` or `outside` the aggregator's root (`eps_place`).
    """

    OPTIONAL = {"eps": ir.FloatAttr, "eps_place": ir.StringAttr}
    out: ext.Result[Any]
    src: ext.Operand[Any]
    keep: Optional[ext.Operand[Any]]
    along: ir.ArrayAttr
    kind: ir.StringAttr

    @property
    def mask(self) -> ir.Value | None:
        """The `keep` operand, or None."""
        operands = self.operation.operands
        return operands[1] if len(operands) > 1 else None

    def check(self) -> None:
        if self.kind.value not in _KINDS:
            raise VerifyError(
                f"unknown normaliser '{self.kind.value}'; expected one of {', '.join(_KINDS)}"
            )
        src = self.operation.operands[0]
        along = strings(self.along)
        check_distinct(along, "along")
        if not along:
            raise VerifyError("'along' must name at least one axis")
        for label in along:
            check_has(labels(src), label, "operand", src.type)
        if not is_float(element_type(src)) or not is_float(element_type(self.out)):
            raise VerifyError(
                f"operand and result must hold floats, found {src.type} and {self.out.type}"
            )
        self._check_mask(src)
        eps = self.optional("eps")
        if eps is not None and not eps.value >= 0:
            raise VerifyError(f"'eps' must not be negative, found {eps.value}")
        place = self.optional("eps_place")
        if place is not None and place.value not in EPS_PLACES:
            raise VerifyError(f"'eps_place' must be inside or outside, found {place.value}")
        check_result(self.out, dims(src))

    def _check_mask(self, src: ir.Value) -> None:
        mask = self.mask
        if mask is None:
            return
        if str(element_type(mask)) != "i1":
            raise VerifyError(f"'keep' must hold i1, found {mask.type}")
        for label in labels(mask):
            check_has(labels(src), label, "operand that 'keep' excludes from", src.type)
