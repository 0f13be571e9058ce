"""A `func.func` whose inputs are added one by one and whose type is known at the end."""

from collections.abc import Sequence

from diagc.dialects import diag
from diagc.mlir import func, ir

__all__ = ["FunctionBuilder"]

Groups = Sequence[Sequence[str]]
"""How the dimensions of a user's tensor group axes: one label each, several merged, none for 1."""


class FunctionBuilder:
    """A public function under construction at the ambient insertion point.

    Every argument and result gets the attributes `diag.name`, `diag.dims` (its `Groups`), and an
    argument `diag.kind`.
    """

    def __init__(self, name: str, loc: ir.Location) -> None:
        """Make the function, without inputs."""
        self._function = func.FuncOp(name, ir.FunctionType.get([], []), loc=loc)
        self._block = self._function.regions[0].blocks.append()
        self._attributes: list[ir.DictAttr] = []

    @property
    def insertion_point(self) -> ir.InsertionPoint:
        """The end of the body."""
        return ir.InsertionPoint(self._block)

    def add_input(
        self, name: str, type_: ir.Type, loc: ir.Location, groups: Groups | None = None
    ) -> ir.Value:
        """Add an argument."""
        kind = {"diag.kind": ir.StringAttr.get("user")}
        self._attributes.append(ir.DictAttr.get(_facts(name, type_, groups) | kind))
        return self._block.add_argument(type_, loc)

    def finish(
        self,
        outputs: Sequence[tuple[str, ir.Value]],
        groups: Sequence[Groups | None],
        loc: ir.Location,
    ) -> None:
        """Return `outputs`, and give the function its type and attributes."""
        values = [value for _, value in outputs]
        with self.insertion_point:
            func.ReturnOp(values, loc=loc)
        types = [[a.type for a in self._block.arguments], [v.type for v in values]]
        self._function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(*types))
        results = [
            ir.DictAttr.get(_facts(name, value.type, group))
            for (name, value), group in zip(outputs, groups, strict=True)
        ]
        if self._attributes:
            self._function.attributes["arg_attrs"] = ir.ArrayAttr.get(self._attributes)
        self._function.attributes["res_attrs"] = ir.ArrayAttr.get(results)


def _facts(name: str, type_: ir.Type, groups: Groups | None) -> dict[str, ir.Attribute]:
    named = [[label] for label in diag.labels(type_)] if groups is None else groups
    return {
        "diag.name": ir.StringAttr.get(name),
        "diag.dims": ir.ArrayAttr.get([diag.string_array(group) for group in named]),
    }
