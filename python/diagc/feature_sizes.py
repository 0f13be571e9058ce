"""Which symbolic sizes of an imported function to fix, so that attention streams; see `algebra`."""

import re
from collections.abc import Iterable, Sequence

from diagc.algebra.feature_axes import open_features
from diagc.compiler import find_entry
from diagc.dialects import diag
from diagc.frontend.torch.importer import ImportedProgram, UserInput
from diagc.mlir import ir

__all__ = ["feature_symbols", "seen_sizes", "without_features"]


def feature_symbols(module: ir.Module) -> frozenset[str]:
    """Names of symbols in the sizes of feature axes."""
    with module.context, ir.Location.unknown():
        entry = find_entry(module)
        return _symbols(entry, open_features(entry))


def without_features(
    imported: ImportedProgram, open_dims: Sequence[frozenset[int]]
) -> list[frozenset[int]]:
    """The dims of the user's tensors that stay open when those with feature symbols are fixed.

    Args:
        imported: with symbolic sizes.
        open_dims: for each of the user's tensors.
    """
    fixed = feature_symbols(imported.module)
    found = list(open_dims)
    if not fixed:
        return found
    with imported.module.context, ir.Location.unknown():
        entry = find_entry(imported.module)
        arguments = _dims_of_arguments(imported)
        for parameter, dims in zip(imported.parameters, arguments, strict=True):
            if isinstance(parameter, UserInput):
                closed = (d for d, labels in enumerate(dims) if _symbols(entry, labels) & fixed)
                found[parameter.index] -= frozenset(closed)
    return found


def seen_sizes(imported: ImportedProgram, shapes: Sequence[Sequence[int]]) -> list[str]:
    """Conditions, as `imported` has them, on the sizes of the user's tensors that are no symbols.

    Args:
        imported: from these examples.
        shapes: of the user's tensors.
    """
    fixed = {(number, dim) for number, shape in enumerate(shapes) for dim in range(len(shape))}
    arguments = diag.function_body(find_entry(imported.module)).arguments
    for parameter, argument, dims in zip(
        imported.parameters, arguments, _dims_of_arguments(imported), strict=True
    ):
        if isinstance(parameter, UserInput):
            sizes = diag.dims(argument)
            opened = (d for d, x in enumerate(dims) if diag.DYNAMIC in map(sizes.get, x))
            fixed -= {(parameter.index, dim) for dim in opened}
    return [f"s[{number}][{dim}] == {int(shapes[number][dim])}" for number, dim in sorted(fixed)]


def _dims_of_arguments(imported: ImportedProgram) -> list[list[list[str]]]:
    """The labels of each dim of each argument."""
    entry = find_entry(imported.module)
    attributes = map(ir.DictAttr, ir.ArrayAttr(entry.attributes["arg_attrs"]))
    return [[diag.strings(dim) for dim in each["diag.dims"]] for each in attributes]


def _symbols(entry: ir.Operation, labels: Iterable[str]) -> frozenset[str]:
    """Names of symbols in the sizes of labels."""
    if "diag.axes" not in entry.attributes:
        return frozenset()
    facts = ir.DictAttr(entry.attributes["diag.axes"])
    texts = [ir.DictAttr(facts[label])["size"].value for label in labels if label in facts]
    return frozenset(name for text in texts for name in re.findall(r"[A-Za-z_]\w*", text))
