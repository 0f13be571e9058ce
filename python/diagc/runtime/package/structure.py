"""Nested arguments and results as plain data: tuples, lists, dicts of tensors and constants."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from diagc.errors import LaunchError, UnsupportedError

__all__ = ["build", "count_tensors", "describe", "flatten"]

# A structure is one of {"tensor": number}, {"value": constant}, {"tuple": [structures]},
# {"list": [structures]}, {"dict": [[key, structure], ...]}.
Structure = dict[str, Any]

_CONSTANTS = (type(None), bool, int, float, str)


def describe(value: Any, number: Callable[[Any], int | None], what: str) -> Structure:
    """The structure of a nested value.

    Args:
        value: of tuples, lists, dicts with string keys, and leaves.
        number: of the tensor that a leaf is or stands for; None for a constant.
        what: for messages.

    Raises:
        UnsupportedError: another container, or a constant that JSON does not hold.
    """
    index = number(value)
    if index is not None:
        return {"tensor": index}
    if isinstance(value, _CONSTANTS):
        return {"value": value}
    if type(value) in (tuple, list):
        return {type(value).__name__: [describe(item, number, what) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": [[key, describe(item, number, what)] for key, item in value.items()]}
    raise UnsupportedError(
        f"a package with {type(value).__name__} among its {what}",
        remedy="use tensors, None, bool, int, float, str in tuples, lists and dicts",
    )


def build(structure: Structure, tensors: Sequence[Any]) -> Any:
    """The nested value with these tensors."""
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "value":
        return content
    if kind == "dict":
        return {key: build(item, tensors) for key, item in content}
    items = [build(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def flatten(structure: Structure, value: Any, where: str) -> list[Any]:
    """Tensors of a value in the order of their numbers.

    Raises:
        LaunchError: the value is not built as the structure says; keys may come in any order.
    """
    found = sorted(_leaves(structure, value, where), key=lambda pair: pair[0])
    return [leaf for _, leaf in found]


def count_tensors(structure: Structure) -> int:
    """Number of tensors; checks the structure on the way.

    Raises:
        ValueError: it is malformed, or its numbers are not 0, 1, ... each once.
    """
    numbers = sorted(_numbers(structure))
    if numbers != list(range(len(numbers))):
        raise ValueError(f"tensors are numbered {numbers}")
    return len(numbers)


def _numbers(structure: Structure) -> Iterator[int]:
    ((kind, content),) = structure.items()
    if kind == "tensor" and type(content) is int:
        yield content
    elif kind in ("tuple", "list"):
        for item in content:
            yield from _numbers(item)
    elif kind == "dict":
        for key, item in content:
            if not isinstance(key, str):
                raise ValueError(f"key {key!r}")
            yield from _numbers(item)
    elif kind != "value" or not isinstance(content, _CONSTANTS):
        raise ValueError(f"unknown structure {kind!r}")


def _leaves(structure: Structure, value: Any, where: str) -> Iterator[tuple[int, Any]]:
    ((kind, content),) = structure.items()
    if kind == "tensor":
        yield content, value
    elif kind == "value":
        if type(value) is not type(content) or not _equal(value, content):
            raise _refuse(where, f"{content!r}, for which it was compiled", repr(value))
    elif kind == "dict":
        keys = [key for key, _ in content]
        if not isinstance(value, dict) or set(keys) != set(value):
            found = f"the keys {list(value)}" if isinstance(value, dict) else value
            raise _refuse(where, f"a dict with the keys {keys}", found)
        for key, item in content:
            yield from _leaves(item, value[key], f"{where}[{key!r}]")
    else:
        if not isinstance(value, (tuple, list)) or len(value) != len(content):
            raise _refuse(where, f"a {kind} of {len(content)}", value)
        for i, item in enumerate(content):
            yield from _leaves(item, value[i], f"{where}[{i}]")


def _equal(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and math.isnan(a) and math.isnan(b)
    return bool(a == b) or both_nan


def _refuse(where: str, expected: str, found: Any) -> LaunchError:
    shown = found if isinstance(found, str) else _kind(found)
    return LaunchError(f"{where} is not what the package takes", expected=expected, found=shown)


def _kind(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"a {type(value).__name__}{length}"
