"""Every environment switch of diagc: typed, documented, and overridable in a `with` block.

>>> from diagc import debug
>>> with debug.VALIDATE.override(True):
...     debug.VALIDATE.get()
True
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from diagc.errors import UserError

if TYPE_CHECKING:
    import logging

__all__ = [
    "CACHE",
    "CACHE_DIR",
    "CPU_ISA",
    "DUMP_DIR",
    "KERNELS_OFF",
    "LOG",
    "MLIR",
    "REPRODUCER_DIR",
    "SWITCHES",
    "VALIDATE",
    "Switch",
    "logger",
]

T = TypeVar("T")


class Switch(Generic[T]):
    """One environment variable with a type, a default and a sentence of documentation.

    A `with` block overrides it for the current thread or task; else the environment counts, read
    anew at every `get()`, so that tests may change it.
    """

    def __init__(
        self, name: str, default: Callable[[], T], parse: Callable[[str], T], doc: str
    ) -> None:
        """Describe the variable; `parse` raises ValueError saying what was expected."""
        self.name = name
        self.doc = doc
        self._default = default
        self._parse = parse
        self._override: ContextVar[T] = ContextVar(name)

    def get(self) -> T:
        """Give the value now.

        Raises:
            UserError: the environment holds a value that cannot be read.
        """
        try:
            return self._override.get()
        except LookupError:
            text = os.environ.get(self.name, "")
        if not text:
            return self._default()
        try:
            return self._parse(text)
        except ValueError as error:
            raise UserError(
                f"bad value in the environment variable {self.name}",
                expected=error,
                found=repr(text),
            ) from None

    @contextmanager
    def override(self, value: T) -> Iterator[None]:
        """Use `value` inside the block."""
        token = self._override.set(value)
        try:
            yield
        finally:
            self._override.reset(token)


_BOOLS = {"0": False, "false": False, "off": False, "1": True, "true": True, "on": True}


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise ValueError("one of " + ", ".join(_BOOLS))
    return _BOOLS[text.lower()]


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text.lower()

    return parse


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "diagc"


def _default_mlir() -> str:
    return "torch_mlir"


def _none() -> Path | None:
    return None


LOG = Switch(
    "DIAGC_LOG",
    lambda: "warning",
    _choice("debug", "info", "warning", "error", "off"),
    "what is logged on stderr: debug, info, warning (default), error, off",
)
CACHE_DIR = Switch(
    "DIAGC_CACHE_DIR",
    _default_cache_dir,
    _path,
    "where compiled kernels and law proofs are kept; default $XDG_CACHE_HOME/diagc",
)
CACHE = Switch(
    "DIAGC_CACHE",
    lambda: True,
    _bool,
    "whether compiled kernels are kept on disk; default on",
)
CPU_ISA = Switch(
    "DIAGC_CPU_ISA",
    lambda: "native",
    _choice("native", "avx512", "avx2", "sse2", "neon"),
    "the vector instructions that CPU kernels may use; default native: all that the CPU has",
)
MLIR = Switch(
    "DIAGC_MLIR",
    _default_mlir,
    _choice("mlir", "torch_mlir"),
    "the package that MLIR's bindings come from: torch_mlir (default) or mlir",
)
DUMP_DIR: Switch[Path | None] = Switch(
    "DIAGC_DUMP_DIR",
    _none,
    _path,
    "a directory that gets the IR after every pass and stage; default none",
)
REPRODUCER_DIR = Switch(
    "DIAGC_REPRODUCER_DIR",
    Path.cwd,
    _path,
    "where the reproducer of an internal error is written; default the current directory",
)
KERNELS_OFF: Switch[tuple[str, ...]] = Switch(
    "DIAGC_KERNELS_OFF",
    tuple,
    _names,
    "names of kernels that are not used, as explain() tells them, with * and ?, after commas",
)
VALIDATE = Switch(
    "DIAGC_VALIDATE",
    lambda: False,
    _bool,
    "whether every derived stream is checked on random f64 data against the unstreamed form",
)

SWITCHES = (LOG, CACHE_DIR, CACHE, CPU_ISA, MLIR, DUMP_DIR, REPRODUCER_DIR, KERNELS_OFF, VALIDATE)


def logger(area: str) -> "logging.Logger":
    """Give the logger `diagc.<area>`, at the level of `DIAGC_LOG`, on stderr."""
    import logging  # 5 ms that `diagc --help` need not pay

    root = logging.getLogger("diagc")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s"))
        root.addHandler(handler)
        root.propagate = False
    level = LOG.get()
    root.setLevel(logging.CRITICAL + 1 if level == "off" else level.upper())
    return root.getChild(area)
