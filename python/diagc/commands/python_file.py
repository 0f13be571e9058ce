"""Programs in a Python file: `FILE.py`, or `FILE.py:name` for one of them.

The file holds public functions or `torch.nn.Module`s, and a function `example_inputs()` that gives
the tuple of arguments. A Module may stand there as an instance, as a class that needs no arguments,
or as a function without parameters that makes one. Names with an underscore do not count, nor does
what the file has only imported.
"""

import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from diagc.commands.program import TorchProgram
from diagc.errors import SourceLocation, UserError

__all__ = ["EXAMPLE_INPUTS", "load_python"]

EXAMPLE_INPUTS = "example_inputs"


def load_python(path: Path, name: str | None) -> list[TorchProgram]:
    """Import a Python file and collect its programs, or the one called `name`.

    Raises:
        UserError: the file cannot be imported, or lacks the name or `example_inputs`.
    """
    module = _import_file(path)
    found = _public_callables(module)
    if name is not None:
        found = {name: _named(module, name, path, found)}
    if not found:
        expected = "a public function or torch.nn.Module beside example_inputs()"
        raise UserError(f"nothing to compile in {path}", expected=expected)
    inputs = _example_inputs(module, path)
    return [TorchProgram(n, lambda: inputs, _instance(value, path)) for n, value in found.items()]


def _import_file(path: Path) -> ModuleType:
    # a name of its own: `copy.py` must not become the `copy` that others import
    spec = spec_from_file_location(f"diagc_program_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import {path}", expected="a Python file, FILE.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    sys.path.insert(0, str(path.parent.resolve()))
    return _guarded(path, "importing it", lambda: _execute(module))


def _execute(module: ModuleType) -> ModuleType:
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    module.__spec__.loader.exec_module(module)
    return module


def _guarded(path: Path, doing: str, action: Callable[[], Any]) -> Any:
    """Run code of the user; what it raises is shown as the user's error, at the user's line."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        message = f"{doing} raised {type(error).__name__}: {text}"
        raise UserError(message, location=_line_in(path, error)) from error


def _line_in(path: Path, error: BaseException) -> SourceLocation:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return SourceLocation(error.filename, error.lineno or 1, error.offset or 1)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.lineno and Path(f.filename).resolve() == path.resolve()]
    return SourceLocation(str(path), lines[-1] if lines else 1, 1)


def _public_callables(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != EXAMPLE_INPUTS and _is_program(value, module)
    }


def _is_program(value: object, module: ModuleType) -> bool:
    if inspect.isfunction(value):
        return value.__module__ == module.__name__
    if isinstance(value, type):
        return value.__module__ == module.__name__ and hasattr(value, "forward")
    return hasattr(value, "forward") and callable(value)


def _named(module: ModuleType, name: str, path: Path, found: dict[str, Any]) -> Any:
    value = getattr(module, name, None)
    if callable(value):
        return value
    raise UserError(
        f"{path} has no function or torch.nn.Module '{name}'",
        expected=f"one of {', '.join(found)}" if found else None,
        found="nothing of that name" if value is None else f"a {type(value).__name__}",
    )


def _instance(value: Any, path: Path) -> Callable[..., Any]:
    """Make the Module of a class or of a function without parameters."""
    is_factory = inspect.isfunction(value) and not inspect.signature(value).parameters
    if not is_factory and not isinstance(value, type):
        return value
    made = _guarded(path, f"{value.__name__}()", value)
    if not callable(made):
        found = f"a {type(made).__name__}"
        raise UserError(f"{value.__name__}() in {path}", expected="a torch.nn.Module", found=found)
    return made


def _example_inputs(module: ModuleType, path: Path) -> tuple[Any, ...]:
    make = getattr(module, EXAMPLE_INPUTS, None)
    if make is None:
        raise UserError(
            f"{path} does not say with what to run",
            expected=f"a function {EXAMPLE_INPUTS}() that gives the tuple of arguments",
        )
    inputs = _guarded(path, f"{EXAMPLE_INPUTS}()", make)
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
