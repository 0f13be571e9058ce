"""Where values of the IR are arrays of the picture: a function, a kernel, the loop of a stream."""

import re
from collections.abc import Mapping

from diagc.dialects import diag
from diagc.frontend.text.print_names import Names
from diagc.mlir import ir
from diagc.viz.model import Array, Axis, Level, Picture

__all__ = ["Scope"]


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _shown(name: str) -> str:
    """`P_5` as P₅."""
    return re.sub(r"_(\d+)$", lambda end: end[1].translate(_SUBSCRIPTS), name)


class Scope:
    """The arrays of one picture, by value.

    Args:
        names: gives names to values that have none.
        level: where its arrays live.
        marks: axes that are decorated there.
        outer: the scope around a loop, whose arrays enter it when they are first used.
    """

    def __init__(
        self,
        names: Names,
        level: Level = Level.PLAIN,
        marks: Mapping[str, Axis] | None = None,
        outer: "Scope | None" = None,
    ) -> None:
        self.picture = Picture()
        self.captured: list[Array] = []
        self._names = names
        self._level = level
        self._marks = dict(marks or {})
        self._outer = outer
        self._streamed: set[str] = set()
        self._arrays: dict[ir.Value, Array] = {}

    def loop(self, axis: str) -> "Scope":
        """The scope of a loop over an axis."""
        chunk = self._marks.get(axis, Axis(axis, None, "s"))
        inner = Scope(self._names, self._level, {**self._marks, axis: chunk}, self)
        inner._streamed = {*self._streamed, axis}
        return inner

    def define(self, value: ir.Value, name: str = "", level: Level | None = None) -> Array:
        """Make the array of a value."""
        name = name or _shown(self._names.of(value))
        wire = diag.is_wire(value.type)
        dtype = str(diag.element_type(value)) if wire else str(value.type)
        array = Array(name, self.axes(value), dtype, level or self._level)
        self._arrays[value] = array
        return array

    def axes(self, value: ir.Value) -> tuple[Axis, ...]:
        """The axes of a value as this scope decorates them."""
        if not diag.is_wire(value.type):
            return ()
        return tuple(self._axis(label, size) for label, size in diag.dims(value).items())

    def _axis(self, label: str, size: int) -> Axis:
        mark = self._marks.get(label)
        if mark is not None and (mark.mark == "g" or label in self._streamed):
            return mark
        return Axis(label, None if size == diag.DYNAMIC else size)

    def use(self, value: ir.Value) -> Array:
        """The array of a value; one from outside enters the picture."""
        if value not in self._arrays:
            if self._outer is None:
                return self.define(value)
            self.enter(value, self._outer.use(value))
        return self._arrays[value]

    def enter(self, value: ir.Value, outer: Array) -> Array:
        """An array from outside, decorated as inside."""
        array = self.define(value, outer.name)
        self.picture.inputs.append(array)
        self.captured.append(outer)
        return array

    def alias(self, value: ir.Value, array: Array) -> None:
        """Let a value be an array that is there."""
        self._arrays[value] = array
