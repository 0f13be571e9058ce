"""Wires: ranked tensors whose encoding names their axes, and the arithmetic of labels and sizes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from diagc.mlir import ir

__all__ = [
    "DYNAMIC",
    "Dims",
    "VerifyError",
    "dims",
    "element_type",
    "is_wire",
    "join_dims",
    "join_size",
    "labels",
    "string_array",
    "strings",
    "wire",
]

DYNAMIC: int = ir.ShapedType.get_dynamic_size()

Dims: TypeAlias = dict[str, int]


class VerifyError(Exception):
    """A broken rule of the dialect; `loc` overrides the location of the op that reports it."""

    def __init__(self, message: str, loc: ir.Location | None = None) -> None:
        super().__init__(message)
        self.loc = loc


def strings(attr: ir.Attribute) -> list[str]:
    """The Python strings of an array of string attributes.

    Raises:
        VerifyError: it is something else.
    """
    found: list[str] = []  # called for every wire of every op: a loop is twice as fast as `all`
    for part in attr if isinstance(attr, ir.ArrayAttr) else [attr]:
        if not isinstance(part, ir.StringAttr) or part is attr:
            raise VerifyError(f'expected an array of strings such as ["q", "d"], found {attr}')
        found.append(part.value)
    return found


def string_array(values: Iterable[str]) -> ir.ArrayAttr:
    """The inverse of `strings`."""
    return ir.ArrayAttr.get([ir.StringAttr.get(v) for v in values])


def is_wire(type_: ir.Type) -> bool:
    """Whether `type_` is a ranked tensor with one label per axis."""
    if not isinstance(type_, ir.RankedTensorType) or type_.encoding is None:
        return False
    return isinstance(type_.encoding, ir.ArrayAttr)


def _tensor(value: Any) -> ir.RankedTensorType:
    type_ = value.type if isinstance(value, ir.Value) else value
    if not isinstance(type_, ir.RankedTensorType):
        raise VerifyError(f"expected a wire (a ranked tensor with axis labels), found {type_}")
    return type_


def labels(value: Any) -> tuple[str, ...]:
    """Axis labels of a wire (a value or its type), in memory order.

    Raises:
        VerifyError: not a ranked tensor, no labels, a label twice, or a label too many.
    """
    type_ = _tensor(value)
    encoding = type_.encoding
    if not isinstance(encoding, ir.ArrayAttr):
        raise VerifyError(
            f'type {type_} has no axis labels: expected an encoding such as ["q", "d"]'
        )
    names = strings(encoding)
    if len(names) != type_.rank:
        raise VerifyError(f"type {type_} has {type_.rank} axes but {len(names)} labels")
    if len(set(names)) != len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise VerifyError(f'label "{name}" stands twice in type {type_}')
    return tuple(names)


def dims(value: Any) -> Dims:
    """Label to size of a wire, in memory order; `DYNAMIC` where the size is a run-time value."""
    type_ = _tensor(value)
    return dict(zip(labels(type_), type_.shape, strict=True))


def element_type(value: Any) -> ir.Type:
    """The element type of a wire."""
    return _tensor(value).element_type


def wire(
    sizes: Mapping[str, int] | Sequence[tuple[str, int]], element: ir.Type
) -> ir.RankedTensorType:
    """The wire type with these labelled sizes; needs an ambient context.

    >>> wire({"q": 4, "d": DYNAMIC}, ir.F32Type.get())   # tensor<4x?xf32, ["q", "d"]>
    """
    pairs = list(sizes.items()) if isinstance(sizes, Mapping) else list(sizes)
    encoding = string_array(label for label, _ in pairs)
    return ir.RankedTensorType.get([size for _, size in pairs], element, encoding=encoding)


def join_size(label: str, first: int, second: int) -> int:
    """One axis, one size: the size that both agree on, a static size winning over a dynamic one."""
    if first == DYNAMIC:
        return second
    if second not in (DYNAMIC, first):
        raise VerifyError(f'axis "{label}" has size {first} in one operand and {second} in another')
    return first


def join_dims(parts: Iterable[Mapping[str, int]]) -> Dims:
    """The union of labelled sizes, in order of first appearance.

    Raises:
        VerifyError: a label with two different static sizes.
    """
    joined: Dims = {}
    for part in parts:
        for label, size in part.items():
            joined[label] = join_size(label, joined.get(label, DYNAMIC), size)
    return joined
