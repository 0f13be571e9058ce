"""The passes of diagc, by name; each is imported on first use.

A pass called `derive-streams` is the class `DeriveStreamsPass` in `derive_streams.py`. Passes that
live elsewhere (tests, other packages) join with `register`.
"""

if __name__ != "diagc.passes":
    raise ImportError("import diagc.passes, not passes: a second copy would hold a second registry")

from importlib import import_module

from diagc.passes.base import Pass

__all__ = ["PASSES", "TARGET_PASSES", "find_pass", "is_pass", "pass_names", "register"]

# In the order of the pipeline.
PASSES = (
    "join-blocks",
    "canonicalize-diag",
    "open-rows",
    "expand-normalizers",
    "split-pads",
    "save-statistics",
    "differentiate",
    "balance-exponentials",
    "fuse-normalization",
    "factor-scales",
    "reassociate-contractions",
    "derive-streams",
    "slide-scales",
    "block-streams",
    "stream-products",
    "round-operands",
    "form-kernels",
    "select-schedule",
    "generalize-kernels",
)

# Passes of targets, by the module that holds them: stages of code that `diagc opt` runs alone.
TARGET_PASSES = {
    "lower-kernel-to-gpu": "diagc.targets.nvptx.passes",
    "lower-gpu-to-nvvm": "diagc.targets.nvptx.passes",
}

_REGISTERED: dict[str, type[Pass]] = {}


def register(pass_class: type[Pass]) -> type[Pass]:
    """Make a pass of another package known by its name; usable as a decorator.

    Raises:
        ValueError: another pass already has that name.
    """
    if is_pass(pass_class.name) and _REGISTERED.get(pass_class.name) is not pass_class:
        raise ValueError(f"there is already a pass '{pass_class.name}'")
    _REGISTERED[pass_class.name] = pass_class
    return pass_class


def pass_names() -> list[str]:
    """Names of all Python passes: ours in pipeline order, those of targets, the registered ones."""
    return [*PASSES, *TARGET_PASSES, *_REGISTERED]


def is_pass(name: str) -> bool:
    """Whether `name` is a Python pass; anything else is left to MLIR."""
    return name in PASSES or name in TARGET_PASSES or name in _REGISTERED


def find_pass(name: str) -> type[Pass]:
    """Give the class of the pass called `name`, importing it if need be.

    Raises:
        KeyError: `is_pass(name)` does not hold.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if not is_pass(name):
        raise KeyError(name)
    words = name.split("-")
    module = import_module(TARGET_PASSES.get(name, f"diagc.passes.{'_'.join(words)}"))
    pass_class: type[Pass] = getattr(module, "".join(word.capitalize() for word in words) + "Pass")
    return pass_class
