"""Measures the few schedules of each kernel that are estimated to be fast, and keeps the fastest.

The model ranks and prunes, measurement picks. What was picked is kept in the cache under the
kernel's text with its sizes rounded to powers of two, the description of the device and the
processor, so that the next program with such a kernel is not measured again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from diagc.cost import UNKNOWN_BATCH, UNKNOWN_SIZE, Device
from diagc.cost.device_file import device_text
from diagc.debug import logger
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.passes.kernels.generalize_kernels import kernel_text
from diagc.runtime.cache import default_cache
from diagc.runtime.package.variants import best_of

if TYPE_CHECKING:
    from diagc.runtime.program import Program

__all__ = ["MOST_CANDIDATES", "BuiltVariant", "Choices", "Tuner", "build_variant"]

MOST_CANDIDATES = 6
"""Schedules of a kernel that are measured, the one that the model prefers among them."""

_TURNS, _RUNS, _SECONDS = 4, 2, 0.1
"""How often each program is timed, and for how many runs and seconds at least each time."""

_KIND = {"kind": "schedule"}
"""Of an entry of the cache."""

Build = Callable[[ir.Module], "Program"]
Key = Callable[[str], str]


class Choices(Protocol):
    """What a target may choose for its kernels: schedules, or sizes of tiles."""

    @property
    def device(self) -> Device:
        """That is chosen for."""

    @property
    def attribute(self) -> str:
        """Name of the attribute of a kernel that holds what was chosen."""

    def candidates(self, kernel: ir.Operation) -> Sequence[Any]:
        """What a kernel may have, the fastest by estimate first."""

    def put(self, kernel: ir.Operation, choice: Any) -> None:
        """Give it to the kernel."""

    def dump(self, choice: Any) -> str:
        """A choice as text."""

    def load(self, kernel: ir.Operation, text: str) -> Any:
        """What `dump` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is none, or none that the kernel may have.
        """


@dataclass(frozen=True)
class BuiltVariant:
    """A module at the stage `kernels`, compiled with choices of its own.

    Args:
        module: the copy of it, which is at the stage `general` now.
        program: what it became.
        numbers: names of the kernels at the stage `kernels`, with their numbers in the program.
    """

    module: ir.Module
    program: "Program"
    numbers: list[tuple[str, int]]


def build_variant(
    module: ir.Module, choices: Choices, chosen: Mapping[str, Any], build: Build
) -> BuiltVariant:
    """Compile a copy of a module.

    Args:
        module: at the stage `kernels`.
        choices: of the target.
        chosen: a choice for each kernel that gets one, by name.
        build: compiles a module from that stage on.
    """
    variant = ir.Module.parse(str(module.operation.get_asm(enable_debug_info=True)))
    for op in diag.functions(variant):
        if diag.symbol_of(op) in chosen:
            choices.put(op, chosen[diag.symbol_of(op)])
    before = _callees(variant)
    program = build(variant)
    numbers = {kernel.name: number for number, kernel in enumerate(program.report.kernels)}
    after = [numbers[name] for name in _callees(variant)]
    return BuiltVariant(variant, program, list(zip(before, after, strict=True)))


@dataclass
class Tuner:
    """Chooses schedules for all kernels of a module at the stage `kernels`.

    Args:
        build: compiles a module from that stage on to a program; kernels keep their schedules.
        key: makes a cache key of a text, for this machine.
        choices: of the target.
    """

    build: Build
    key: Key
    choices: Choices

    def tune(self, module: ir.Module) -> None:
        """Give every kernel for which nothing is chosen what is kept for it, or what wins now."""
        chosen = self.choices.attribute
        found = [op for op in diag.functions(module) if diag.is_kernel(op)]
        kernels = {diag.symbol_of(op): op for op in found if chosen not in op.attributes}
        open_ones = {}
        for name, kernel in kernels.items():
            kept = self._kept(kernel)
            if kept is None:
                open_ones[name] = kernel
            else:
                self.choices.put(kernel, kept)
        if open_ones:
            self._measure(module, open_ones)

    # -- measuring -------------------------------------------------------------------------------
    def _measure(self, module: ir.Module, kernels: Mapping[str, ir.Operation]) -> None:
        keys = {name: self._key(kernel) for name, kernel in kernels.items()}
        found = {name: self.choices.candidates(kernel) for name, kernel in kernels.items()}
        candidates = {name: few[:MOST_CANDIDATES] for name, few in found.items() if few}
        if not candidates:
            return
        variants = [
            {n: s[min(number, len(s) - 1)] for n, s in candidates.items()}
            for number in range(max(map(len, candidates.values())))
        ]
        built = [build_variant(module, self.choices, v, self.build) for v in variants]
        programs = [(each.program, each.numbers) for each in built]
        times = {name: [float("inf")] * len(programs) for name in candidates}
        for _ in range(_TURNS):  # in turns, so that a slow spell of the machine hits all alike
            for number, (program, names) in enumerate(programs):
                for name, seconds in _times(program, names).items():
                    if name in times:
                        times[name][number] = min(times[name][number], seconds)
        for name in candidates:
            best = best_of(dict(enumerate(times[name][: len(candidates[name])])), 0)
            choice = candidates[name][best]
            for other, seconds in zip(candidates[name], times[name], strict=False):
                logger("autotune").info("%s: %.3f ms with %s", name, seconds * 1e3, other)
            default_cache().put(keys[name], self.choices.dump(choice).encode(), _KIND)
            self.choices.put(kernels[name], choice)

    # -- what is kept ----------------------------------------------------------------------------
    def _key(self, kernel: ir.Operation) -> str:
        text = shape_class(kernel_text(kernel))
        return self.key("\n".join(("autotune", device_text(self.choices.device, ""), text)))

    def _kept(self, kernel: ir.Operation) -> Any | None:
        """The choice of an entry; one that cannot be read, or does not fit, is removed."""
        key = self._key(kernel)
        entry = default_cache().get(key)
        if entry is None:
            return None
        try:
            return self.choices.load(kernel, entry.payload.decode())
        except (ValueError, TypeError, KeyError) as error:
            logger("cache").warning("removed a schedule that cannot be used: %s", error)
            default_cache().remove(key)
            return None


def _times(program: "Program", names: Sequence[tuple[str, int]]) -> dict[str, float]:
    """Seconds of a launch of each kernel."""
    from diagc.runtime.kernel_times import time_kernels  # torch
    from diagc.runtime.usual_inputs import usual_inputs

    inputs = usual_inputs(program, UNKNOWN_SIZE, UNKNOWN_BATCH)
    found = time_kernels(program, inputs, least=_RUNS, budget=_SECONDS)
    times = {name: found[number] for name, number in names}
    return {name: time.seconds / time.launches for name, time in times.items() if time is not None}


_SIZE = re.compile(r"(?<=[<x])\d+(?=x)")


def shape_class(text: str) -> str:
    """A kernel's text with every size rounded up to a power of two."""
    return _SIZE.sub(lambda size: str(1 << max(int(size[0]) - 1, 0).bit_length()), text)


def _callees(module: ir.Module) -> list[str]:
    """Kernels in the order of their calls."""
    ops = [op for function in diag.functions(module) for op in diag.walk_ops(function.regions[0])]
    kernels = {diag.symbol_of(op) for op in diag.functions(module) if diag.is_kernel(op)}
    names = [diag.callee_of(op) for op in ops if op.name == "func.call"]
    return [name for name in names if name in kernels]
