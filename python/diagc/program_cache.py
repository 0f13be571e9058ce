"""Programs on disk: a module that was compiled before needs no pass, only its kernels.

An entry holds the host's steps, the cache keys of the kernels and the report. Its key covers the
text of the module without locations, the pipeline with all options, the processor, and the source
files of the compiler itself. Line numbers in a cached report are those of the first compilation.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diagc
from diagc.debug import logger
from diagc.dialects import diag
from diagc.errors import CacheError
from diagc.explain import report
from diagc.host_program import HostProgram
from diagc.mlir import ir
from diagc.runtime import steps
from diagc.runtime.cache import default_cache

__all__ = ["StoredProgram", "can_be_kept", "decode", "encode", "module_text", "read", "write"]


@dataclass(frozen=True)
class StoredProgram:
    """What an entry holds; `kernels` are cache keys, in the order of their numbers."""

    host: HostProgram
    kernels: tuple[str, ...]
    report: report.Report


_BUILT_IN_KINDS = diag.registered_kinds()


def can_be_kept() -> bool:
    """Whether modules mean what their text says: a user's own normalisers are functions."""
    return diag.registered_kinds() == _BUILT_IN_KINDS


def module_text(module: ir.Module, pipeline: str) -> str:
    """The text that a program's key is made of."""
    text = str(module.operation.get_asm(assume_verified=True))
    return "\n".join((_source_stamp(), pipeline, text))


def read(key: str) -> StoredProgram | None:
    """The program of a key; an entry that cannot be read counts as missing."""
    entry = default_cache().get(key)
    if entry is None:
        return None
    try:
        stored = decode(json.loads(entry.payload))
        if not isinstance(stored, StoredProgram):
            raise CacheError("it holds no program")
        return stored
    except (CacheError, ValueError, TypeError, KeyError) as error:
        logger("cache").warning("removed a program that cannot be read: %s", error)
        default_cache().remove(key)
        return None


def write(key: str, program: StoredProgram) -> None:
    """Store a program."""
    default_cache().put(key, json.dumps(encode(program)).encode(), {"kind": "program"})


# ---- plain data --------------------------------------------------------------------------------

_CLASSES: Mapping[str, type] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (StoredProgram, HostProgram, *vars(steps).values(), *vars(report).values())
        if isinstance(kind, type) and is_dataclass(kind)
    }
)


def encode(value: Any) -> Any:
    """Dataclasses, tuples, dictionaries and bytes as JSON values; lists become tuples."""
    if is_dataclass(value) and not isinstance(value, type):
        items = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
        return {"is": type(value).__name__, **items}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {"is": "dict", "items": [[key, encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"is": "bytes", "base64": base64.b64encode(value).decode()}
    return value


def decode(value: Any) -> Any:
    """The inverse of `encode`.

    Raises:
        CacheError: an unknown class.
        TypeError: fields that do not fit.
    """
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind == "dict":
        return {key: decode(item) for key, item in value["items"]}
    if kind == "bytes":
        return base64.b64decode(value["base64"])
    if kind not in _CLASSES:
        raise CacheError(f"it holds an unknown '{kind}'")
    return _CLASSES[kind](**{name: decode(item) for name, item in value.items() if name != "is"})


# ---- the compiler's own version ----------------------------------------------------------------


@cache
def _source_stamp() -> str:
    """Changes with every edit of the compiler: names, sizes and times of its source files."""
    root = Path(diagc.__file__).parent
    return diagc.__version__ + " " + " ".join(sorted(_stamps(root)))


def _stamps(directory: Path) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir() and entry.name != "__pycache__":
                yield from _stamps(Path(entry.path))
            elif entry.name.endswith(".py"):
                stat = entry.stat()
                yield f"{entry.name}:{stat.st_size}:{stat.st_mtime_ns}"
