"""Calls of a compiled function: finds the program that fits, compiles another when none does."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import torch
from torch import is_grad_enabled
from torch.compiler import is_compiling

from diagc.debug import logger
from diagc.errors import DiagcError, UserError
from diagc.runtime.arguments import Arguments, GroupKey, split_arguments
from diagc.runtime.captured import CapturedTensor, visible_modules
from diagc.runtime.composed_attention import attention_of_transforms
from diagc.runtime.eager_gradients import split_tensors
from diagc.runtime.guards import SizeMismatch, check_inputs
from diagc.runtime.program import Program
from diagc.runtime.repeat import Repeat
from diagc.runtime.saving_call import call_saving
from diagc.runtime.sharded_ops import register_sharding_rules
from diagc.runtime.sharding import call_sharded, is_sharded
from diagc.runtime.specialization import Backward, Ready, Specialization
from diagc.runtime.torch_ops import (
    call_through_op,
    in_autocast,
    in_transform,
    must_dispatch,
    register_group,
    specialize_like,
)

if TYPE_CHECKING:
    from diagc.runtime.first_call import FirstCallCheck

__all__ = ["MAX_SPECIALIZATIONS", "Build", "Calls", "Group", "OpenDims"]

MAX_SPECIALIZATIONS = 32
"""Programs kept for one kind of call; the one that met new sizes longest ago goes first.

Sizes of 1 are kinds of their own: batches, heads, rows and keys that may be 1 are 16 programs."""

# For each tensor the dims whose sizes are open; True for all that can be.
OpenDims = Sequence[frozenset[int]] | bool


class Build(Protocol):
    """Imports and compiles the function for one kind of call."""

    def __call__(
        self, arguments: Arguments, tensors: Sequence[torch.Tensor], dynamic: OpenDims
    ) -> Specialization:
        """`tensors` are examples; `dynamic` says which sizes stay open."""

    def gradients(
        self,
        arguments: Arguments,
        specialization: Specialization,
        wanted: Sequence[int],
        saved: bool,
    ) -> Program:
        """The program of `Backward`, for the inputs of these numbers."""

    def saving(self, specialization: Specialization) -> Program | None:
        """The program of `Specialization.saving`; None where nothing is worth saving."""


class Group:
    """All programs for calls that differ in their tensors only.

    Args:
        function: the user's.
        arguments: structure of the calls.
        build: compiles.
        dynamic: None to open the dims that have changed, True for all, False for none.
        name: of the function.
        key: says exactly what the function computes, for graphs that are cached on disk.
        check: judges the first call of each program.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Arguments,
        build: Build,
        dynamic: bool | None,
        name: str,
        key: str | None = None,
        check: "FirstCallCheck | None" = None,
    ) -> None:
        """Nothing is compiled yet."""
        self._check = check
        self.function = function
        self.arguments = arguments
        self.specializations: list[Specialization] = []
        self.captured: tuple[CapturedTensor, ...] = ()
        """Captured tensors of all programs, in order of first use."""
        self.saver: Specialization | None = None
        """Which one graphs with `diagc::call_saving` call; see `diagc.runtime.saving_ops`."""
        self.key = register_group(self, name, key)
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
            self._move_to_front(specialization)
            self._add_captured(specialization)
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

    def _move_to_front(self, specialization: Specialization) -> None:
        rest = [other for other in self.specializations if other is not specialization]
        self.specializations = [specialization, *rest]

    def _add_captured(self, specialization: Specialization) -> None:
        known = {source.identity: source for source in self.captured}
        for source in specialization.sources:
            if isinstance(source, CapturedTensor):
                known.setdefault(source.identity, source)
        self.captured = tuple(known.values())

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


class Calls:
    """Runs a function through its compiled programs; gradients come from the function itself.

    Args:
        function: the user's.
        build: compiles it.
        name: for messages and keys.
        dynamic: None to open dims that change between calls, True for all, False for none.
        key: see `Group`; for a function of tensors alone.
        check: see `Group`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        build: Build,
        name: str,
        dynamic: bool | None,
        key: str | None = None,
        check: "FirstCallCheck | None" = None,
    ) -> None:
        """Nothing is compiled yet."""
        self._check = check
        self._key = key
        self.function = function
        self.name = name
        self._build = build
        self._dynamic = dynamic
        self._groups: dict[GroupKey, Group] = {}
        self.latest: Specialization | None = None
        """What was compiled or used last."""
        self._repeat: tuple[Repeat, Group] | None = None

    @property
    def groups(self) -> Sequence[Group]:
        """All kinds of calls so far."""
        return tuple(self._groups.values())

    def group(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Group, Sequence[torch.Tensor]]:
        """The programs for calls like this, and its tensors."""
        tensors, key, arguments = split_arguments(args, kwargs)
        key = key, self._modes()
        found = self._groups.get(key)
        if found is None:
            settings = (self._dynamic, self.name, self._key, self._check)
            made = Group(self.function, arguments, self._build, *settings)
            found = self._groups.setdefault(key, made)
        return found, tensors

    def _modes(self) -> tuple[bool, ...]:
        """Whether each module that the function sees is in training, which changes what it does."""
        return tuple([module.training for module in self._modules])

    @cached_property
    def _modules(self) -> list[torch.nn.Module]:
        return [m for root in visible_modules(self.function) for m in root.modules()]

    def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Compile for calls like this one, without running anything.

        Raises:
            DiagcError: as for a call.
        """
        group, tensors = self.group(args, kwargs)
        self.latest = group.example(tensors)

    def prepare_like(self, tensors: Sequence[torch.Tensor]) -> None:
        """Compile for fake tensors, whose symbolic sizes stay open.

        Raises:
            DiagcError: as for a call.
        """
        group, tensors = self.group(tuple(tensors), {})
        self.latest = specialize_like(group, tensors)

    def prepare_saving(self) -> bool:
        """Let graphs call the latest program by `diagc::call_saving`; false where none may.

        It has to take all calls of such a graph.
        """
        found = next((g for g in self.groups if self.latest in g.specializations), None)
        if found is None or self.latest is None or self.latest.random:
            return False
        if found.saver is None and found.saving(self.latest) is not None:
            found.saver = self.latest
        return found.saver is self.latest

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one call.

        Raises:
            DiagcError: arguments that cannot be meant, or a function that cannot be compiled.
        """
        if is_compiling() or in_autocast():
            return self._call_aside(args, kwargs)
        if self._repeat is not None:  # a call like the last one is run with few steps
            repeat, group = self._repeat
            ready = repeat.ready(args, kwargs, self._modes())
            if ready is not None:
                return self._run(group, ready, args)
        group, tensors = self.group(args, kwargs)
        if must_dispatch(tensors):
            if in_transform():
                logger("calls").info("%s runs in eager mode under a transform", self.name)
                with attention_of_transforms():
                    return self.function(*args, **kwargs)
            if is_sharded(tensors):
                return self._call_sharded(group, tensors)
            return self._call_traced(group, tensors)
        ready = group.find(tensors) or group.make(tensors)
        if group.arguments.plain:
            self._repeat = Repeat(len(args), self._modes(), ready), group
        return self._run(group, ready, tensors)

    def _run(self, group: Group, ready: Ready, tensors: Sequence[torch.Tensor]) -> Any:
        self.latest = specialization = ready.specialization
        if is_grad_enabled() and any(tensor.requires_grad for tensor in ready.inputs):
            if specialization.random:
                args, kwargs = group.arguments.rebuild(tensors)
                return self.function(*args, **kwargs)
            if group.saving(specialization) is None:
                return call_through_op(group, specialization, tensors)
            return call_saving(group, specialization, tensors)
        return specialization.value(group.run(ready, tensors))

    def _call_aside(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call under torch's compilers, which trace this code, or in autocast."""
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return self.function(*args, **kwargs)  # it would compute in other dtypes than imported
        return self._call_traced(*self.group(args, kwargs))

    def _call_sharded(self, group: Group, tensors: Sequence[torch.Tensor]) -> Any:
        """A call with tensors that are distributed over processes."""
        args, kwargs = group.arguments.rebuild(tensors)
        weights = [p for module in self._modules for p in module.parameters(recurse=False)]
        if is_sharded(weights) or any(weight.requires_grad for weight in weights):
            logger("calls").info("%s runs in eager mode: its weights are shared", self.name)
            return self.function(*args, **kwargs)

        def run(local: Sequence[torch.Tensor]) -> Any:
            group.example(local)  # in a mode nothing else would compile it
            args, kwargs = group.arguments.rebuild(local)
            return self(args, kwargs)

        return call_sharded(group, tensors, run)

    def _call_traced(self, group: Group, tensors: Sequence[torch.Tensor]) -> Any:
        """Call the op, so that a tracer or mode sees it."""
        if any(tensor.is_nested for tensor in tensors):
            raise UserError(
                f"{self.name} is called with a nested tensor",
                expected="tensors with sizes",
                remedy="diagc.packed_attention takes jagged ones; or pass .values() and .offsets()",
            )
        if not group.specializations:
            raise UserError(
                f"{self.name} is traced before it was compiled for such a call",
                remedy="call it once in eager mode, or give diagc.compile such example inputs",
            )
        return call_through_op(group, group.specializations[0], tensors)
