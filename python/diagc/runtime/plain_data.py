"""Dataclasses, tuples and bytes as JSON values and back, without ever running what was stored."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from diagc.errors import CacheError

__all__ = ["Codec", "dataclasses_of"]


class Codec:
    """Encodes and decodes values of the dataclasses that it is made for.

    Args:
        classes: those that may occur; names must differ.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        """Index the classes by name."""
        self._classes = {kind.__name__: kind for kind in classes}

    def encode(self, value: Any) -> Any:
        """Dataclasses, tuples, dictionaries and bytes as JSON values; lists become tuples."""
        if is_dataclass(value) and not isinstance(value, type):
            items = {field.name: self.encode(getattr(value, field.name)) for field in fields(value)}
            return {"is": type(value).__name__, **items}
        if isinstance(value, (tuple, list)):
            return [self.encode(item) for item in value]
        if isinstance(value, Mapping):
            items_ = [[key, self.encode(item)] for key, item in value.items()]
            return {"is": "dict", "items": items_}
        if isinstance(value, bytes):
            return {"is": "bytes", "base64": base64.b64encode(value).decode()}
        return value

    def decode(self, value: Any) -> Any:
        """The inverse of `encode`.

        Raises:
            CacheError: an unknown class.
            TypeError: fields that do not fit.
            KeyError: no class is named.
            ValueError: bytes that are no base64.
        """
        if isinstance(value, list):
            return tuple(self.decode(item) for item in value)
        if not isinstance(value, dict):
            return value
        kind = value["is"]
        if kind == "dict":
            return {key: self.decode(item) for key, item in value["items"]}
        if kind == "bytes":
            return base64.b64decode(value["base64"], validate=True)
        if kind not in self._classes:
            raise CacheError(f"it holds an unknown '{kind}'")
        items = {name: self.decode(item) for name, item in value.items() if name != "is"}
        return self._classes[kind](**items)


def dataclasses_of(module: object) -> list[type]:
    """The dataclasses that a module defines or imports."""
    values = vars(module).values()
    return [value for value in values if isinstance(value, type) and is_dataclass(value)]
