"""What a compilation is asked to do: `CompileOptions`, and the one that is in force now."""

from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path

from diagc import debug
from diagc.errors import UserError

__all__ = [
    "PRECISIONS",
    "CompileOptions",
    "current",
    "option_names",
    "require_gpu_target",
    "use",
]


PRECISIONS = ("highest", "high", "medium")
"""Of products of f32, in torch's words; of f8 the first two."""


@dataclass(frozen=True)
class CompileOptions:
    """Options that passes, targets and the pipeline read; the environment gives the defaults."""

    target: str = "auto"
    """Name of a target (`cpu`, `nvptx:sm_90`, `interp`); `auto` is that of `device`, else `cpu`."""
    device: str = ""
    """The device that costs are told for: a name, a description's file; empty: the target's."""
    autotune: bool = False
    """Measure the schedules of each kernel that are estimated to be fast, and keep the fastest."""
    importer: str = "fx"
    """How Python functions are read: `fx`, or `torch-mlir` through its raw torch dialect."""
    reassociate: str = "auto"
    """Reorder chains of contractions: `auto` (by cost), `exact` (if rounding allows), `off`."""
    library: str = "auto"
    """Who computes lone contractions: the framework's library (`auto`), kernels (`none`), or
    kernels where these make large tiles, together with the maps behind them (`tiled`, on CPUs)."""
    empty_rows: str = "zero"
    """What a row gives that a normaliser has nothing of: `zero`, or what `eager` gives (NaN)."""
    wrt: tuple[str, ...] = ()
    """Names of arguments whose gradients are computed in place of the results, from cotangents of
    the float results, which are further arguments; none: the results."""
    saves: bool = False
    """Whether the program gives, behind its results, what that of its gradients takes."""
    float32_matmul_precision: str = "highest"
    """Products of f32 on tensor cores, as torch names them: `highest` f32's digits, `high` and
    `medium` those of tf32 (relative error 2**-11 of each operand). Other code has f32's."""
    float8_matmul_precision: str = "highest"
    """Products with f8 numbers: `highest` as those of f16 or more, sums in f32; with `high`, where
    there are instructions for f8 (sm_90a), what is computed in a kernel (the weights of attention)
    is rounded to f8 as well, in each chunk of a row to a scale that fits it (relative error 2**-4
    of each weight), and sums within a chunk have the digits that the hardware keeps."""
    batch_invariant: bool = False
    """What a row gives does not depend, to the bit, on how many rows there are: no products of the
    framework's library, no reordering by cost, no tuning; targets that split streams are refused.
    """
    kernels_off: tuple[str, ...] = field(default_factory=debug.KERNELS_OFF.get)
    """Names of kernels that are not used, or one, with `*` and `?`; the interpreter runs them,
    slowly."""
    validate: bool = field(default_factory=debug.VALIDATE.get)
    """Check every derived stream on random f64 data against the unstreamed meaning."""
    verify_each: bool = True
    """Verify the IR after every pass."""
    print_ir_before: tuple[str, ...] = ()
    """Names of passes, or one, before which the IR is printed on stderr; `all` for every pass."""
    print_ir_after: tuple[str, ...] = ()
    """Names of passes, or one, after which the IR is printed on stderr; `all` for every pass."""
    dump_dir: Path | None = field(default_factory=debug.DUMP_DIR.get)
    """Directory that gets one file with the IR after every pass."""
    timing: bool = False
    """Print a table with the time of every pass on stderr."""

    def __post_init__(self) -> None:
        """Check what no pass does; one name, a list or a set of names becomes a tuple.

        Raises:
            UserError: no such precision, something else than names, no path, or options that
                exclude each other.
        """
        for option in _NAMES:
            object.__setattr__(self, option, _names(option, getattr(self, option)))
        object.__setattr__(self, "dump_dir", _directory(self.dump_dir))
        for name, known in (("float32", PRECISIONS), ("float8", PRECISIONS[:2])):
            option = f"{name}_matmul_precision"
            found = getattr(self, option)
            if found not in known:
                raise UserError(f"no such {option}", expected=", ".join(known), found=found)
        if self.batch_invariant:
            self._choose_nothing_by_size()

    def _choose_nothing_by_size(self) -> None:
        if self.autotune:
            raise UserError("autotune chooses by size, which batch_invariant excludes")
        object.__setattr__(self, "library", "none")
        object.__setattr__(self, "reassociate", "off")


_NAMES = ("wrt", "kernels_off", "print_ir_before", "print_ir_after")


def _names(option: str, found: object) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,)
    expected = f"one name for {option}, or a collection of names"
    if not isinstance(found, Collection) or isinstance(found, Mapping):
        raise UserError(f"{option} is no name", expected=expected, found=repr(found))
    for name in found:
        if not isinstance(name, str):
            raise UserError(f"{option} holds no name", expected=expected, found=repr(name))
    return tuple(sorted(found) if isinstance(found, AbstractSet) else found)


def _directory(found: object) -> Path | None:
    if found is None or isinstance(found, str | PathLike):
        return None if found is None else Path(found)
    raise UserError("dump_dir is no path", expected="a directory or None", found=repr(found))


def option_names() -> list[str]:
    """The options that users may give for a function, which gives its own results, no gradients."""
    return [option.name for option in fields(CompileOptions) if option.name not in _OF_GRADIENTS]


_OF_GRADIENTS = ("wrt", "saves")


_CURRENT: ContextVar[CompileOptions | None] = ContextVar("diagc_options", default=None)


def current() -> CompileOptions:
    """Give the options in force: those of the innermost `use` block, else the defaults."""
    return _CURRENT.get() or CompileOptions()


@contextmanager
def use(options: CompileOptions) -> Iterator[CompileOptions]:
    """Put `options` in force inside the block.

    Passes take no options object along; `derive-streams` asks `current().validate`.
    """
    token = _CURRENT.set(options)
    try:
        yield options
    finally:
        _CURRENT.reset(token)


def require_gpu_target(options: CompileOptions) -> None:
    """Refuse to simulate kernels of another target.

    Raises:
        UserError: the options' target makes no kernels for GPUs.
    """
    if options.target.partition(":")[0] != "nvptx":
        message = "only kernels for GPUs can be simulated"
        raise UserError(message, expected="the target nvptx", found=options.target)
