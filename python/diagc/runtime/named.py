"""Named functions: graphs call them by keys that mean the same in every process.

A key is the function's name and, behind it, what else tells how a group of calls computes: the
number of tensors, structure and constants of the arguments, modes of modules, and the names of the
weights that come behind the tensors. A process that has compiled a function of this name makes the
group again; so a program that was exported needs the module that names its functions, as it needs
the module that defines a custom op.
"""

import ast
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import uuid4

from diagc.errors import UserError
from diagc.runtime.arguments import Arguments, read_arguments, write_arguments
from diagc.runtime.captured import CapturedTensor, Owners

if TYPE_CHECKING:
    from diagc.runtime.calls import Calls

__all__ = ["NamedCall", "find_function", "modes_text", "origin_of", "register_function"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")

_AS_IT_IS = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\%')
"""Characters in keys: torch writes them between quotes into generated C++."""


@dataclass(frozen=True)
class NamedCall:
    """What a key tells.

    Args:
        name: of the function.
        training: modes of the modules that the function sees, see `modes_text`.
        arguments: how they are put together; weights come behind their tensors.
        weights: names of the weights, in order, see `Owners.name_of`.
    """

    name: str
    training: str
    arguments: Arguments
    weights: tuple[str, ...] = ()

    def key(self) -> str:
        """As one line.

        Raises:
            UserError: a constant, or a structure, that cannot be written.
        """
        facts: dict[str, Any] = {"tensors": self.arguments.count}
        if self.training:
            facts["training"] = self.training
        if not self.arguments.plain:
            facts["arguments"] = write_arguments(self.arguments, self.name)
        if self.weights:
            facts["weights"] = self.weights
        return f"{self.name} {quote(repr(facts), safe=_AS_IT_IS)}"

    @classmethod
    def read(cls, key: str) -> "NamedCall | None":
        """The inverse of `key`; None for the key of a function without a name."""
        name, space, text = key.partition(" ")
        if not space:
            return None
        facts = ast.literal_eval(unquote(text))
        arguments = read_arguments(facts["arguments"]) if "arguments" in facts else Arguments()
        arguments = replace(arguments, count=facts["tensors"])
        training, weights = facts.get("training", ""), facts.get("weights", ())
        return cls(name, training, arguments, weights)

    def with_weights(
        self, function: Callable[..., Any], weights: Sequence[CapturedTensor]
    ) -> "NamedCall":
        """The call with these weights of the function.

        Raises:
            UserError: no module holds one of them, so that it has no name.
        """
        owners = Owners(function)
        names = []
        for weight in weights:
            name = owners.name_of(weight)
            if name is None:
                raise UserError(
                    f"'{self.name}' reads a tensor that no module holds",
                    expected="arguments, parameters and buffers, which graphs give by name",
                    found=f"one of shape {tuple(weight.tensor.shape)}",
                    remedy="pass it, register it as a buffer, or compile without a name",
                )
            names.append(name)
        return replace(self, weights=tuple(names))

    def find_weights(self, function: Callable[..., Any]) -> tuple[CapturedTensor, ...]:
        """The function's own weights of these names.

        Raises:
            UserError: it has not got one.
        """
        owners = Owners(function)
        found = []
        for name in self.weights:
            weight = owners.named(name)
            if weight is None:
                raise self.other(f"no weight '{name}'")
            found.append(weight)
        return tuple(found)

    def other(
        self, found: str, remedy: str = "define it as where the graph was exported, or export again"
    ) -> UserError:
        """The error for a function that is not the one that a graph was exported with."""
        return UserError(
            f"a graph calls another function than the one named '{self.name}' here",
            expected=f"{self.arguments.count} tensors, modules in modes '{self.training}', "
            f"weights {', '.join(self.weights) or 'none'}",
            found=found,
            remedy=remedy,
        )


def modes_text(modes: Sequence[bool]) -> str:
    """Which modules are in training, in short; empty where there are no modules."""
    if len(set(modes)) < 2:
        return "".join("train" if mode else "eval" for mode in modes[:1])
    return "".join("1" if mode else "0" for mode in modes)


# ---- functions by name -----------------------------------------------------------------------

_FUNCTIONS: dict[str, list["weakref.ref[Calls]"]] = {}


def origin_of(function: Callable[..., Any]) -> str:
    """Equal for definitions of one function, such as those of a notebook's cell that ran twice.

    Modules, methods, lambdas and functions in functions may hold what nobody sees: each is one of
    its own.
    """
    name = getattr(function, "__qualname__", "<")
    if "<" in name or hasattr(function, "__self__"):
        return uuid4().hex
    return f"{function.__module__}.{name}"


def register_function(name: str, origin: str, calls: "Calls") -> None:
    """Give a function its name, as long as it lives; of several definitions the last one counts.

    Args:
        name: letters, digits and `_.:-`.
        origin: see `origin_of`; copies have that of the original.
        calls: of the function.

    Raises:
        UserError: no such name, or another function has it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "a letter or _, then letters, digits, and _ . : -"
        raise UserError("no name for a function", expected=expected, found=repr(name))
    for other in _alive(name):
        if other.function is not calls.function and other.origin != origin:
            raise UserError(
                f"two functions are named '{name}'",
                expected="a name for each, for graphs find them by it",
                found=f"{_described(other.function)} and {_described(calls.function)}",
                remedy="choose another name, or drop the function that has it",
            )
    _FUNCTIONS[name] = [*map(weakref.ref, _alive(name)), weakref.ref(calls)]


def find_function(name: str) -> "Calls":
    """The function of a name.

    Raises:
        UserError: there is none.
    """
    found = _alive(name)
    if not found:
        raise UserError(
            f"a graph calls the function named '{name}', which this process has not got",
            remedy=f"import the module that holds what diagc.compile(…, name='{name}') gives",
        )
    return found[-1]


def _alive(name: str) -> list["Calls"]:
    found = (reference() for reference in _FUNCTIONS.get(name, ()))
    return [calls for calls in found if calls is not None]


def _described(function: Callable[..., Any]) -> str:
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}.{owner.__qualname__}"
