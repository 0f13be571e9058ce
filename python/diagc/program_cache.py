"""Programs on disk: a module that was compiled before needs no pass, only its kernels.

An entry holds the host's steps, the cache keys of the kernels and the report. Its key covers the
text of the module without locations, the formulas of the registered normalisers that it names, the
pipeline with all options, the processor, and the source files of the compiler itself. Line numbers
in a cached report are those of the first compilation.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import diagc
from diagc.algebra import normalizers
from diagc.debug import logger
from diagc.errors import CacheError
from diagc.mlir import ir
from diagc.report import data
from diagc.runtime import steps
from diagc.runtime.cache import default_cache
from diagc.runtime.plain_data import Codec, dataclasses_of
from diagc.runtime.steps import HostProgram

__all__ = ["StoredProgram", "decode", "encode", "module_text", "read", "write"]


@dataclass(frozen=True)
class StoredProgram:
    """What an entry holds; `kernels` are cache keys, in the order of their numbers."""

    host: HostProgram
    kernels: tuple[str, ...]
    report: data.Report


def module_text(module: ir.Module, pipeline: str) -> str:
    """The text that a program's key is made of."""
    text = str(module.operation.get_asm(assume_verified=True))
    return "\n".join((_source_stamp(), pipeline, normalizers.rows_text(text), text))


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


_CODEC = Codec((StoredProgram, *dataclasses_of(steps), *dataclasses_of(data)))
encode, decode = _CODEC.encode, _CODEC.decode
"""See `Codec`."""


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
