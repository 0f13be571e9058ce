"""Programs for calls that differ in their tensors only, and the key that graphs call them by."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from diagc.debug import logger
from diagc.errors import DiagcError
from diagc.runtime.arguments import Arguments
from diagc.runtime.build import Build, OpenDims
from diagc.runtime.captured import CapturedTensor
from diagc.runtime.eager_gradients import split_tensors
from diagc.runtime.guards import SizeMismatch, check_inputs
from diagc.runtime.named import NamedCall
from diagc.runtime.program import Program
from diagc.runtime.sharded_ops import register_sharding_rules
from diagc.runtime.specialization import Backward, Ready, Specialization
from diagc.runtime.torch_ops import register_group

if TYPE_CHECKING:
    from diagc.runtime.first_call import FirstCallCheck

__all__ = ["MAX_SPECIALIZATIONS", "Group"]

MAX_SPECIALIZATIONS = 32
"""Programs kept for one kind of call; the one that met new sizes longest ago goes first.

Sizes of 1 are kinds of their own: batches, heads, rows and keys that may be 1 are 16 programs."""


class Group:
    """All programs for calls that differ in their tensors only.

    Args:
        function: the user's.
        arguments: structure of the calls; captured tensors come behind theirs.
        build: compiles.
        dynamic: None to open the dims that have changed, True for all, False for none.
        name: of the function.
        key: says exactly what the function computes, for graphs that outlive the process.
        check: judges the first call of each program.
        sealed: whether graphs give the weights that the key names, and no others.

    Raises:
        UserError: of a named function: arguments or weights that cannot be in its key.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Arguments,
        build: Build,
        dynamic: bool | None,
        name: str,
        key: str | NamedCall | None = None,
        check: "FirstCallCheck | None" = None,
        sealed: bool = False,
    ) -> None:
        """Nothing is compiled yet."""
        self._check = check
        self._named = key if isinstance(key, NamedCall) else None
        self._sealed = sealed
        self.function = function
        self.arguments = arguments
        self.specializations: list[Specialization] = []
        self.captured = self._named.find_weights(function) if self._named else ()
        """Captured tensors of all programs, in order of first use."""
        self.saver: Specialization | None = None
        """Which one graphs with `diagc::call_saving` call; see `diagc.runtime.saving_ops`."""
        self.key = register_group(self, name, key.key() if isinstance(key, NamedCall) else key)
        """Name for torch's dispatcher; given here, for tracers defer side effects."""
        self._build = build
        self._dynamic = dynamic
        self._seen: list[tuple[tuple[int, ...], ...]] = []
        self._fixed: dict[tuple[tuple[int, ...], ...], Specialization] = {}
        self._lock = threading.RLock()
        _ALL.add(self)
        register_sharding_rules()

    def find(
        self,
        tensors: Sequence[torch.Tensor],
        captured: Mapping[object, torch.Tensor] = MappingProxyType({}),
    ) -> Ready | None:
        """A program that has run on such tensors before; `captured` replaces captured ones."""
        for specialization in self.specializations:
            inputs = specialization.inputs(tensors, captured)
            plan = specialization.program.find_plan(inputs)
            if plan is not None:
                return Ready(specialization, inputs, plan)
        return None

    def make(
        self,
        tensors: Sequence[torch.Tensor],
        captured: Mapping[object, torch.Tensor] = MappingProxyType({}),
    ) -> Ready:
        """A program that takes these tensors; compiled when there is none yet.

        Raises:
            LaunchError: the tensors cannot be meant: number, dtype, rank, device.
            DiagcError: the function cannot be compiled for them.
        """
        with self._lock:
            shapes = _shapes(tensors)
            for specialization in list(self.specializations):
                if not specialization.admits(shapes):
                    continue
                inputs = specialization.inputs(tensors, captured)
                try:
                    plan = specialization.program.prepare(inputs)
                except SizeMismatch:
                    continue
                self._move_to_front(specialization)
                return Ready(specialization, inputs, plan)
            specialization = self.specialize(tensors)
            inputs = specialization.inputs(tensors, captured)
            return Ready(specialization, inputs, specialization.program.prepare(inputs))

    def run(
        self, ready: Ready, tensors: Sequence[torch.Tensor], fresh: bool = False
    ) -> list[torch.Tensor]:
        """The program's results; `fresh`: none shares memory with anything.

        Raises:
            MismatchError: the first call is judged, and a result is wrong.
        """
        results = ready.run(fresh)
        self._judge(ready.specialization, tensors, results)
        return results

    def run_saving(
        self, specialization: Specialization, program: Program, tensors: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The results, and what is saved for the gradients; `program`: that of `saving`.

        Raises:
            MismatchError: as `run`.
        """
        users, captured = split_tensors(self, tensors)
        inputs = specialization.inputs(users, captured)
        plan = program.find_plan(inputs) or program.prepare(inputs)
        found = program.execute(plan, inputs, fresh=True)
        count = len(specialization.program.outputs)
        self._judge(specialization, users, found[:count])
        return found[:count], found[count:]

    def _judge(
        self,
        specialization: Specialization,
        tensors: Sequence[torch.Tensor],
        results: list[torch.Tensor],
    ) -> None:
        """Compare the first results of a program with those of eager mode, where that is wanted."""
        if self._check is None or specialization.checked:
            return
        call, report = self.arguments.rebuild(tensors), specialization.program.report
        self._check(self.function, call, results, specialization.results_of, report)
        specialization.checked = True

    def example(self, tensors: Sequence[torch.Tensor]) -> Specialization:
        """A program for tensors like these, which may be on another device than it runs on.

        Raises:
            DiagcError: as `make`.
        """
        with self._lock:
            shapes = _shapes(tensors)
            fitting = [s for s in self.specializations if s.accepts(shapes)]
            specialization = fitting[0] if fitting else self.specialize(tensors)
            program, inputs = specialization.program, specialization.inputs(tensors)
            if all(tensor.device.type == program.device for tensor in inputs):
                program.prepare(inputs)
            return specialization

    def fixed(self, tensors: Sequence[torch.Tensor]) -> Specialization:
        """A program for just these sizes, which is not kept for calls."""
        shapes = _shapes(tensors)
        with self._lock:
            if shapes not in self._fixed:
                self._fixed[shapes] = self._build_checked(tensors, False)
            return self._fixed[shapes]

    def specialize(
        self, tensors: Sequence[torch.Tensor], dynamic: OpenDims | None = None
    ) -> Specialization:
        """Compile for tensors like these; by default dims that changed between calls are open."""
        with self._lock:
            shapes = _shapes(tensors)
            self._seen.append(shapes)
            specialization = self._compile(tensors, dynamic or self._open_dims(shapes))
            self._add_captured(specialization)
            self._move_to_front(specialization)
            if len(self.specializations) > MAX_SPECIALIZATIONS:
                self.specializations.pop()
            return specialization

    def saving(self, specialization: Specialization) -> Program | None:
        """The program that also gives what gradients take; compiled at the first call."""
        with self._lock:
            if specialization.saves and specialization.saving is None:
                specialization.saving = self._make_saving(specialization)
                specialization.saves = specialization.saving is not None
            return specialization.saving

    def _make_saving(self, specialization: Specialization) -> Program | None:
        try:
            return self._build.saving(specialization)
        except DiagcError as error:
            logger("calls").info("nothing is saved for gradients: %s", error)
            return None

    def backward(
        self, specialization: Specialization, wanted: tuple[int, ...], saved: bool
    ) -> Backward:
        """How to compute gradients by the inputs of these numbers; compiled at the first call."""
        with self._lock:
            if (wanted, saved) not in specialization.backward:
                made = self._make_backward(specialization, wanted, saved)
                specialization.backward[wanted, saved] = made
            return specialization.backward[wanted, saved]

    def _make_backward(
        self, specialization: Specialization, wanted: tuple[int, ...], saved: bool
    ) -> Backward:
        names = ", ".join(specialization.program.inputs[number].name for number in wanted)
        try:
            program = self._build.gradients(self.arguments, specialization, wanted, saved)
        except DiagcError as error:
            reason = str(error).strip().split("\n")[0]
            logger("calls").info("gradients by %s are those of eager mode: %s", names, reason)
            return Backward(None, reason)
        logger("calls").info("gradients by %s have a program of their own", names)
        return Backward(program)

    def _compile(self, tensors: Sequence[torch.Tensor], dynamic: OpenDims) -> Specialization:
        if not dynamic:
            return self._build_checked(tensors, False)
        try:
            return self._build_checked(tensors, dynamic)
        except DiagcError as error:
            logger("calls").info("sizes stay fixed, for they cannot be open: %s", error)
            reason = str(error).strip().split("\n")[0]
        return replace(self._build_checked(tensors, False), fixed_because=reason)

    def _build_checked(self, tensors: Sequence[torch.Tensor], dynamic: OpenDims) -> Specialization:
        """Compile, and see that the program takes its own examples."""
        specialization = self._build(self.arguments, tensors, dynamic)
        check_inputs(
            specialization.program.inputs,
            specialization.inputs(tensors),
            specialization.program.float64,
            device=None,
        )
        return specialization

    def _open_dims(self, shapes: tuple[tuple[int, ...], ...]) -> OpenDims:
        """Dims whose sizes have differed between calls; sizes 0 and 1 stay fixed."""
        if self._dynamic is not None:
            return self._dynamic
        changed = []
        for number, shape in enumerate(shapes):
            others = [seen[number] for seen in self._seen if len(seen[number]) == len(shape)]
            dims = (d for d, size in enumerate(shape) if size > 1)
            changed.append(frozenset(d for d in dims if any(o[d] != shape[d] for o in others)))
        return changed if any(changed) else False

    def reads(self, specialization: Specialization, count: int) -> list[bool]:
        """Which of a call's tensors, the user's and then the captured ones, a program reads."""
        sources = [
            s for i, s in enumerate(specialization.sources) if i not in specialization.unused
        ]
        weights = {s.identity for s in sources if isinstance(s, CapturedTensor)}
        found = [number in sources for number in range(self.arguments.count)]
        return [*found, *(source.identity in weights for source in self.captured)][:count]

    def _move_to_front(self, specialization: Specialization) -> None:
        rest = [other for other in self.specializations if other is not specialization]
        self.specializations = [specialization, *rest]

    def _add_captured(self, specialization: Specialization) -> None:
        known = {source.identity: source for source in self.captured}
        for source in specialization.sources:
            if isinstance(source, CapturedTensor):
                known.setdefault(source.identity, source)
        captured = tuple(known.values())
        if self._named is not None and len(captured) > len(self.captured):
            self._name_weights(self._named, captured)
        self.captured = captured

    def _name_weights(self, known: NamedCall, captured: Sequence[CapturedTensor]) -> None:
        """Take the key of calls that give more weights; graphs with the former one stay valid."""
        named = known.with_weights(self.function, captured)
        if self._sealed:
            raise known.other(f"one that reads weight '{named.weights[-1]}', too")
        self._named = named
        self.key = register_group(self, named.name, named.key())

    def renew_lock(self) -> None:
        """In a forked process, whose threads do not include the one that may have held it."""
        self._lock = threading.RLock()


_ALL: "WeakSet[Group]" = WeakSet()


def _renew_locks() -> None:
    for group in _ALL:
        group.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


def _shapes(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
    """Shapes; () for a nested tensor, which has none and is refused later, by name."""
    return tuple(() if tensor.is_nested else tuple(tensor.shape) for tensor in tensors)
