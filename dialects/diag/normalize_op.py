"""The normaliser as one op: sugar for a row of the normaliser table (algebra)."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from diagc.dialects.diag.array_ops import (
    check_distinct,
    check_has,
    check_result,
    is_float,
    is_stored_float,
)
from diagc.dialects.diag.dialect import DiagOp
from diagc.dialects.diag.types import VerifyError, dims, element_type, labels, strings
from diagc.mlir import ext, ir

__all__ = [
    "BUILTIN_KINDS",
    "EPS_PLACES",
    "NORMALIZER_OPS",
    "NormalizeOp",
    "NormalizeWithOp",
    "kind_parameters",
    "mask_of",
    "parameters_of",
    "register_kind",
    "registered_kinds",
    "unregister_kind",
]

EPS_PLACES = ("inside", "outside")

BUILTIN_KINDS = ("softmax", "l2", "l1", "relu-sum", "sigmoid", "none", "rms", "layer")

Parameters = Mapping[str, Sequence[str]]

# The table of laws (diagc.algebra) registers its kinds here, so that the verifier can name them
# without the dialect importing the algebra above it.
NORMALIZER_OPS = ("diag.normalize", "diag.normalize_with")
"""The ops that normalise; the second is for kinds with parameters."""

_KINDS: dict[str, Parameters] = {kind: {} for kind in BUILTIN_KINDS}


def register_kind(kind: str, parameters: Parameters | None = None) -> None:
    """Make `kind` a legal kind of `diag.normalize`; `parameters` are axes by name, in order."""
    _KINDS[kind] = parameters or {}


def unregister_kind(kind: str) -> None:
    """Make `kind` illegal again."""
    _KINDS.pop(kind, None)


def registered_kinds() -> tuple[str, ...]:
    """All legal kinds."""
    return tuple(_KINDS)


def kind_parameters(kind: str) -> Parameters:
    """The axes of each parameter of a kind, by name, in the order of the operands."""
    return _KINDS[kind]


def mask_of(op: ir.Operation) -> ir.Value | None:
    """The operand `keep` of a normaliser op, or None."""
    return op.operands[1] if len(op.operands) - len(parameters_of(op)) > 1 else None


def parameters_of(op: ir.Operation) -> list[ir.Value]:
    """The operands of a normaliser op that are parameters of its kind, in their order."""
    if op.name != NORMALIZER_OPS[1]:
        return []
    first = sum(list(ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]))[:2])
    return list(op.operands)[first:]


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

    def check(self) -> None:
        _check(self)


class NormalizeWithOp(DiagOp, name="normalize_with", traits=[ext.Pure]):
    """`diag.normalize` by a kind that has parameters: floats without the axes `along`, all alike.

    They follow `src` and `keep` in the order in which the kind declares them. IRDL wants one type
    for all of a variadic group, so that the builder gives them common axes and elements.
    """

    OPTIONAL = {"eps": ir.FloatAttr, "eps_place": ir.StringAttr}
    out: ext.Result[Any]
    src: ext.Operand[Any]
    keep: Optional[ext.Operand[Any]]
    parameters: Sequence[ext.Operand[Any]]
    along: ir.ArrayAttr
    kind: ir.StringAttr

    def check(self) -> None:
        _check(self)


def _check(op: Any) -> None:
    if op.kind.value not in _KINDS:
        raise VerifyError(
            f"unknown normaliser '{op.kind.value}'; expected one of {', '.join(_KINDS)}"
        )
    src = op.operation.operands[0]
    along = strings(op.along)
    check_distinct(along, "along")
    if not along:
        raise VerifyError("'along' must name at least one axis")
    for label in along:
        check_has(labels(src), label, "operand", src.type)
    if not is_float(element_type(src)) or not is_float(element_type(op.out)):
        raise VerifyError(
            f"operand and result must hold floats, found {src.type} and {op.out.type}"
        )
    if any(is_stored_float(element_type(value)) for value in (src, op.out)):
        raise VerifyError(f"{element_type(src)} is not normalised; convert it to f32 before")
    _check_mask(op, src)
    _check_parameters(op, src)
    eps = op.optional("eps")
    if eps is not None and not eps.value >= 0:
        raise VerifyError(f"'eps' must not be negative, found {eps.value}")
    place = op.optional("eps_place")
    if place is not None and place.value not in EPS_PLACES:
        raise VerifyError(f"'eps_place' must be inside or outside, found {place.value}")
    check_result(op.out, dims(src))


def _check_mask(op: Any, src: ir.Value) -> None:
    mask = mask_of(op.operation)
    if mask is None:
        return
    if str(element_type(mask)) != "i1":
        raise VerifyError(f"'keep' must hold i1, found {mask.type}")
    for label in labels(mask):
        check_has(labels(src), label, "operand that 'keep' excludes from", src.type)


def _check_parameters(op: Any, src: ir.Value) -> None:
    """As many parameters as the kind has: floats, over axes of a row's place only."""
    names, found = kind_parameters(op.kind.value), parameters_of(op.operation)
    for wire in found:
        if not is_float(element_type(wire)):
            raise VerifyError(f"parameters must hold floats, found {wire.type}")
        for label in labels(wire):
            check_has(labels(src), label, "operand that a parameter belongs to", src.type)
            if label in strings(op.along):
                raise VerifyError(f'a parameter has the normalised axis "{label}"')
    if len(found) != len(names):
        what = f"parameters {', '.join(names)}" if names else "no parameters"
        raise VerifyError(f"normaliser '{op.kind.value}' has {what}; found {len(found)}")
