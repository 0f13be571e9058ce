"""The table ATen op -> raising rule."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from diagc.frontend.torch.aten import Node
from diagc.frontend.torch.graph import View

if TYPE_CHECKING:
    from diagc.frontend.torch.raiser import Raiser

__all__ = ["RULES", "NotRaised", "Rule", "rule"]

Rule: TypeAlias = Callable[["Raiser", Node], View | Sequence[View]]
"""Gives the view of each result of the node, or raises `NotRaised`."""

RULES: dict[str, Rule] = {}
"""Rules by op without overload, `aten.softmax`."""


class NotRaised(Exception):
    """This call has no diag meaning (yet); the message says why. It becomes an extern op."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these ATen ops (names without `aten.`).

    Raises:
        ValueError: an op has a rule already.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            packet = name if "." in name else f"aten.{name}"
            if packet in RULES:
                raise ValueError(f"two raising rules for {packet}")
            RULES[packet] = function
        return function

    return register
