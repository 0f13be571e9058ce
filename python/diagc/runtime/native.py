"""Finds the native launcher, which is built with the package where a C++ compiler is at hand."""

from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["native_launcher", "why_not_native"]

_INTERFACE = 1  # as in launcher.cpp: one built from an older source is not used
_REMEDY = "install diagc again, from source, with a C++ compiler, Python's headers and nanobind"


@cache
def _find() -> tuple[Any, str | None]:
    try:
        launcher = import_module("diagc.runtime._launcher")
    except ModuleNotFoundError:
        return None, f"not built: {_REMEDY}"
    except ImportError as error:
        return None, f"cannot be loaded ({error}): {_REMEDY}"
    if launcher.INTERFACE != _INTERFACE:
        return None, f"out of date: {_REMEDY}"
    return launcher, None


def native_launcher() -> Any:
    """The extension module `_launcher`; None where it cannot be used."""
    return _find()[0]


def why_not_native() -> str | None:
    """What is missing for the native launcher, and the remedy; None where it is there."""
    return _find()[1]
