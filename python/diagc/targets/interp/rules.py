"""The table from op name to the rule that evaluates the op, and what evaluates a block by it."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from diagc.errors import InternalError, UnsupportedError
from diagc.mlir import ir
from diagc.targets.interp.frame import Frame
from diagc.targets.interp.rounding import Array

__all__ = ["Rule", "evaluate_block", "rule", "rule_names"]

Rule: TypeAlias = Callable[[ir.Operation, Frame], Sequence[Array]]

_RULES: dict[str, Rule] = {}
_TERMINATORS = ("diag.yield", "func.return")


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter the decorated function as the rule of the ops called `names`.

    A rule takes the op and the frame and gives one array per result, with axes as in its type.

    Raises:
        ValueError: one of the ops has a rule already.
    """

    def enter(function: Rule) -> Rule:
        for name in names:
            if name in _RULES:
                raise ValueError(f"op '{name}' has two rules in the interpreter")
            _RULES[name] = function
        return function

    return enter


def rule_names() -> tuple[str, ...]:
    """Names of all ops that the interpreter knows."""
    return tuple(_RULES)


def evaluate_block(block: ir.Block, frame: Frame) -> list[Array]:
    """Evaluate the ops of a block in order; gives what its terminators yield.

    Raises:
        UnsupportedError: an op without a rule.
        InternalError: a rule gave a result that does not fit the op's type.
    """
    results: list[Array] = []
    for view in block.operations:
        op = view.operation
        if op.name in _TERMINATORS:
            results += [frame[operand] for operand in op.operands]
            continue
        _evaluate_op(op, frame)
    return results


def _evaluate_op(op: ir.Operation, frame: Frame) -> None:
    found = _RULES.get(op.name)
    if found is None:
        raise UnsupportedError(op.name, reason="it has no reference meaning", location=op.location)
    try:
        if frame.options.noise is None:
            arrays = found(op, frame)
        else:
            with frame.noisy_operands(op, frame.options.noise):
                arrays = found(op, frame)
        for result, array in zip(op.results, arrays, strict=True):
            frame.define(result, array, op)
    except (ValueError, IndexError, TypeError) as error:
        raise InternalError(
            f"the interpreter cannot evaluate '{op.name}': {error}", location=op.location
        ) from error
