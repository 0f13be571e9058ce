"""The passes of diagc, by name; each is imported on first use.

A pass called `derive-streams` is the class `DeriveStreamsPass` in `streams/derive_streams.py`.
Passes that live elsewhere (tests, other packages) join with `register`.
"""

if __name__ != "diagc.passes":
    raise ImportError("import diagc.passes, not passes: a second copy would hold a second registry")

from importlib import import_module

from diagc.passes.base import Pass

__all__ = ["PASSES", "TARGET_PASSES", "find_pass", "is_pass", "pass_names", "register"]

# In the order of the pipeline, each with the folder that holds it.
PASSES = {
    "join-blocks": "canonical",
    "canonicalize-diag": "canonical",
    "open-rows": "canonical",
    "expand-normalizers": "canonical",
    "split-pads": "canonical",
    "save-statistics": "gradients",
    "differentiate": "gradients",
    "balance-exponentials": "scales",
    "fuse-normalization": "contractions",
    "factor-scales": "scales",
    "reassociate-contractions": "contractions",
    "derive-streams": "streams",
    "slide-scales": "scales",
    "block-streams": "streams",
    "stream-products": "streams",
    "round-operands": "canonical",
    "split-words": "contractions",
    "form-kernels": "kernels",
    "select-schedule": "kernels",
    "generalize-kernels": "kernels",
}

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
    own = f"diagc.passes.{PASSES.get(name)}.{'_'.join(words)}"
    module = import_module(TARGET_PASSES.get(name, own))
    pass_class: type[Pass] = getattr(module, "".join(word.capitalize() for word in words) + "Pass")
    return pass_class
