"""Names of values for the printer: what their locations say, made unique and legal."""

import re

from diagc.frontend.scalar_types import ELEMENT_TYPES
from diagc.frontend.text.lexer import KEYWORDS
from diagc.mlir import ir

__all__ = ["Names"]

_RESERVED = KEYWORDS | set(ELEMENT_TYPES)


class Names:
    """Gives each value of one function a name, in order of first asking."""

    def __init__(self, taken: set[str]) -> None:
        """Keep clear of `taken`, the labels of axes."""
        self._taken = {*_RESERVED, *taken}
        self._names: dict[ir.Value, str] = {}
        self._counts: dict[str, int] = {}

    def of(self, value: ir.Value) -> str:
        """Give the name of a value."""
        if value not in self._names:
            self._names[value] = self.fresh(_hint(value))
        return self._names[value]

    def rename(self, value: ir.Value, name: str) -> None:
        """Show `value` as `name` from now on."""
        self._names[value] = name

    def fresh(self, hint: str) -> str:
        """Give a name that nothing has yet: `hint`, or `hint_1` and so on."""
        name = base = re.sub(r"\W", "_", hint, flags=re.ASCII)
        while name in self._taken:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        self._taken.add(name)
        return name


def _hint(value: ir.Value) -> str:
    loc = value.location
    if isinstance(loc, ir.FusedLoc):
        loc = next((part for part in loc.locations if isinstance(part, ir.NameLoc)), loc)
    name = loc.name_str if isinstance(loc, ir.NameLoc) else ""
    if re.match(r"[A-Za-z_]", name):
        return name
    if isinstance(value.owner, ir.Block):
        return "arg"
    return value.owner.operation.name.rsplit(".", 1)[-1]
