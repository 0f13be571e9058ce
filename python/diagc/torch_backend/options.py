"""What `torch.compile(…, backend="diagc", mode=…, options={…})` takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diagc.api import CHECKS, chosen_target, with_torch_s_precision
from diagc.errors import UserError
from diagc.options import CompileOptions, option_names
from diagc.stages import pipeline_text

__all__ = ["BackendOptions", "read_options"]

RESTS = ("inductor", "eager")
TAKES = ("streams", "all")


@dataclass(frozen=True)
class BackendOptions:
    """Options of the backend itself; all others are those of `diagc.CompileOptions`.

    Args:
        rest: who runs what diagc does not take: "inductor", or "eager".
        take: "streams" for regions that stream an axis, "all" for every kernel that more than one
            call goes into (default when the rest is eager, or with `batch_invariant`).
        mode: as torch.compile has it, for Inductor.
        check: "first-call" to compare the first call of every region with eager torch.
        compile: of the compiler.
    """

    rest: str = "inductor"
    take: str = "streams"
    mode: str | None = None
    check: str | None = None
    compile: CompileOptions = field(default_factory=CompileOptions)


def read_options(mode: str | None, options: Mapping[str, Any] | None) -> BackendOptions:
    """Check what the user gave.

    Raises:
        UserError: an unknown option, or a value that an option does not have.
        TargetError: no such target on this machine.
    """
    if not isinstance(options, Mapping | None):
        found = type(options).__name__
        raise UserError("options must be a dict", expected="names and values", found=found)
    given = dict(options or {})
    _check_mode(mode)
    rest = str(given.pop("rest", "inductor"))
    usual = "streams" if rest == "inductor" and not given.get("batch_invariant") else "all"
    take = str(given.pop("take", usual))
    for name, value, known in (("rest", rest, RESTS), ("take", take, TAKES)):
        if value not in known:
            expected = " or ".join(known)
            raise UserError(f"unknown value of option '{name}'", expected=expected, found=value)
    check = given.pop("check", None)
    if check not in CHECKS:
        raise UserError("unknown check", expected="None or 'first-call'", found=repr(check))
    names = option_names()
    for name in given:
        if name not in names:
            expected = ", ".join(["rest", "take", "check", *sorted(names)])
            raise UserError("unknown option of backend 'diagc'", expected=expected, found=name)
    compile_options = with_torch_s_precision(given)
    compile_options = replace(compile_options, target=chosen_target(compile_options))
    pipeline_text(compile_options)  # a value that no pass has is refused here
    return BackendOptions(rest, take, mode, check, compile_options)


def _check_mode(mode: str | None) -> None:
    if mode is None:
        return
    from torch._inductor import list_mode_options

    known = list_mode_options()
    if mode not in known:
        raise UserError("unknown mode", expected=", ".join(known), found=mode)
