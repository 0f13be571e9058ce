"""What functions and wires say about tensors: names, dims, types, as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from diagc.dialects import diag
from diagc.mlir import ir
from diagc.runtime.steps import ArrayType, Dims

__all__ = [
    "array_type",
    "nth_attributes",
    "one_type",
    "open_sizes",
    "tensor_dims",
    "text_attribute",
]


def array_type(value: ir.Value) -> ArrayType:
    """Labels and element type of a wire."""
    return ArrayType(diag.labels(value), str(diag.element_type(value)))


def nth_attributes(function: ir.Operation, name: str, number: int) -> Mapping[str, Any]:
    """Attributes of one argument or result of a function, by name."""
    if name not in function.attributes:
        return {}
    attributes = ir.DictAttr(ir.ArrayAttr(function.attributes[name])[number])
    return {entry.name: entry.attr for entry in attributes}


def text_attribute(attributes: Mapping[str, Any], name: str, default: str) -> str:
    """A string attribute, or the default."""
    return str(ir.StringAttr(attributes[name]).value) if name in attributes else default


def tensor_dims(attributes: Mapping[str, Any], labels: Sequence[str]) -> Dims:
    """How a tensor's dims group labels; without the attribute each label is a dim."""
    if "diag.dims" not in attributes:
        return tuple((label,) for label in labels)
    return tuple(tuple(diag.strings(group)) for group in ir.ArrayAttr(attributes["diag.dims"]))


def one_type(value: ir.Value) -> tuple[ArrayType, ...]:
    """The type of a wire as the types of a step with one result."""
    return (array_type(value),)


def open_sizes(function: ir.Operation) -> dict[str, str]:
    """The sizes of open axes by label, as the importer wrote them down: `s27 - 1`."""
    if "diag.axes" not in function.attributes:
        return {}
    facts = ir.DictAttr(function.attributes["diag.axes"])
    sizes = {entry.name: ir.DictAttr(entry.attr) for entry in facts}
    return {label: ir.StringAttr(fact["size"]).value for label, fact in sizes.items()}
