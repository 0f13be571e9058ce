"""Calls of a compiled function: finds the program that fits, compiles another when none does."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import is_grad_enabled
from torch.compiler import is_compiling

from diagc.debug import logger
from diagc.errors import UserError
from diagc.runtime.arguments import Arguments, GroupKey, split_arguments
from diagc.runtime.build import Build
from diagc.runtime.captured import visible_modules
from diagc.runtime.composed_attention import attention_of_transforms
from diagc.runtime.group import Group
from diagc.runtime.named import NamedCall, modes_text, register_function
from diagc.runtime.repeat import Repeat
from diagc.runtime.saving_call import call_saving
from diagc.runtime.sharding import call_sharded, is_sharded
from diagc.runtime.specialization import Ready, Specialization
from diagc.runtime.torch_ops import (
    call_through_op,
    in_autocast,
    in_transform,
    must_dispatch,
    specialize_like,
)

if TYPE_CHECKING:
    from diagc.runtime.first_call import FirstCallCheck

__all__ = ["Calls"]


class Calls:
    """Runs a function through its compiled programs; gradients come from the function itself.

    Args:
        function: the user's.
        build: compiles it.
        name: for messages and keys.
        dynamic: None to open dims that change between calls, True for all, False for none.
        key: see `Group`; for a function of tensors alone.
        check: see `Group`.
        public: the name by which graphs find the function in every process, if it has one.
        origin: of a named function, see `diagc.runtime.named.origin_of`.

    Raises:
        UserError: it cannot be named so.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        build: Build,
        name: str,
        dynamic: bool | None,
        key: str | None = None,
        check: "FirstCallCheck | None" = None,
        public: str | None = None,
        origin: str = "",
    ) -> None:
        """Nothing is compiled yet."""
        self._check = check
        self._key = key
        self._public = public
        self.origin = origin
        self.function = function
        self.name = name
        self._build = build
        self._dynamic = dynamic
        self._groups: dict[GroupKey, Group] = {}
        self._of_graphs: dict[str, Group] = {}
        self.latest: Specialization | None = None
        """What was compiled or used last."""
        self._repeat: tuple[Repeat, Group] | None = None
        if public is not None:
            register_function(public, origin, self)

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
            found = self._groups.setdefault(key, self._new_group(arguments))
        return found, tensors

    def _new_group(self, arguments: Arguments) -> Group:
        key: str | NamedCall | None = self._key
        if self._public is not None:
            key = NamedCall(self._public, modes_text(self._modes()), arguments)
        settings = (self._build, self._dynamic, self.name, key, self._check)
        return Group(self.function, arguments, *settings)

    def group_of_graph(self, call: NamedCall) -> Group:
        """The programs for calls in a graph that was exported by another process.

        Raises:
            UserError: the function has not got the weights that the graph gives, or its modules
                are in other modes.
        """
        key = call.key()
        if key in self._of_graphs:
            return self._of_graphs[key]
        found = modes_text(self._modes())
        if found != call.training:
            raise call.other(f"modes '{found}'", "call .train() or .eval() as it was at the export")
        settings = (self._build, self._dynamic, self.name, call, self._check)
        made = Group(self.function, call.arguments, *settings, sealed=True)
        return self._of_graphs.setdefault(key, made)

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
