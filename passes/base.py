"""What a Python pass is: a frozen dataclass with a name, options as fields, and `run`.

```python
@dataclass(frozen=True)
class DeriveStreamsPass(Pass):
    \"\"\"turn reductions over a long axis into streams.\"\"\"

    name: ClassVar[str] = "derive-streams"
    limit: int = 4096       # the option `limit`, as in derive-streams{limit=256}

    def run(self, op: ir.Operation) -> None:
        ...                 # rewrite `op`; raise PassError to fail
```
"""

import inspect
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from diagc.errors import PassError
from diagc.mlir import ir

__all__ = ["ANY_OP", "Pass", "PassError"]

ANY_OP = "any"


@dataclass(frozen=True)
class Pass(ABC):
    """Base of all Python passes.

    A pass may assume that the IR verifies on entry and must leave it so. It runs with the context
    and the location of `op` ambient, and never on a declaration (an op without a body). A field
    `max_size` is the option `max-size`; fields are bool, int, float, str or tuples of int or str,
    and all have defaults.
    """

    name: ClassVar[str]
    """Kebab-case name, as pipelines say it."""
    anchor: ClassVar[str] = "func.func"
    """Name of the op that the pass runs on, or `any`."""

    @abstractmethod
    def run(self, op: ir.Operation) -> None:
        """Rewrite `op` in place.

        Raises:
            PassError: the input cannot be handled; without a location, that of `op` is shown.
            UnsupportedError: it cannot be handled yet.
        """

    def check_choice(self, field: str, choices: Collection[str]) -> None:
        """Check the value of an option that is one of some.

        Raises:
            PassError: it has another value.
        """
        value = getattr(self, field)
        if value not in choices:
            raise PassError(
                f"bad value for option '{_text_name(field)}' of pass '{self.name}'",
                expected=" or ".join(choices),
                found=f"'{value}'",
            )

    @classmethod
    def summary(cls) -> str:
        """Give the first line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Give the options by their textual names, with their defaults."""
        return {_text_name(f.name): _default(f) for f in fields(cls)}

    @classmethod
    def from_options(cls, values: dict[str, str]) -> Self:
        """Make the pass from texts by option name.

        Raises:
            ValueError: an unknown option or a text that does not fit; the message says which.
        """
        kinds = typing.get_type_hints(cls)
        known = {_text_name(f.name): f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                listing = ", ".join(known) or "none"
                raise ValueError(f"no such option '{name}' for pass '{cls.name}'; known: {listing}")
        return cls(**{known[n]: _parse(cls, n, kinds[known[n]], v) for n, v in values.items()})

    def __str__(self) -> str:
        """Give the text that `from_options` reads: `name{option=value ...}`, defaults left out."""
        changed = [
            f"{_text_name(f.name)}={_show(getattr(self, f.name))}"
            for f in fields(self)
            if getattr(self, f.name) != _default(f)
        ]
        return self.name + (f"{{{' '.join(changed)}}}" if changed else "")


def _text_name(field_name: str) -> str:
    return field_name.replace("_", "-")


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


_BOOLS = {"": True, "1": True, "true": True, "0": False, "false": False}


def _parse_bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise ValueError
    return _BOOLS[text.lower()]


_PARSERS: dict[object, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _parse_bool),
    int: ("an integer", int),
    float: ("a number", float),
    str: ("text", str),
    tuple[int, ...]: ("integers a,b,c", lambda text: tuple(int(t) for t in text.split(",") if t)),
    tuple[str, ...]: ("names a,b,c", lambda text: tuple(t for t in text.split(",") if t)),
}


def _parse(pass_class: type[Pass], name: str, kind: object, text: str) -> Any:
    if isinstance(kind, types.UnionType):  # `int | None`: None is only ever the default
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    expected, parse = _PARSERS[kind]
    try:
        return parse(text)
    except ValueError:
        message = f"bad value '{text}' for option '{name}' of pass '{pass_class.name}'"
        raise ValueError(f"{message}, expected {expected}") from None
