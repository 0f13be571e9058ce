"""Entry points of the interpreter."""

from collections.abc import Sequence

import numpy as np

from diagc.mlir import ir
from diagc.targets.interp import array_rules, scalars, stream_rules
from diagc.targets.interp.call_rules import evaluate_call, find_function
from diagc.targets.interp.frame import Externs, Options
from diagc.targets.interp.noise import Noise
from diagc.targets.interp.rounding import Array

__all__ = ["evaluate", "evaluate_function"]

RULE_MODULES = (array_rules, scalars, stream_rules)
"""Importing them fills the table of rules."""


def evaluate(
    module: ir.Module,
    inputs: Sequence[Array],
    function: str = "main",
    externs: Externs | None = None,
    *,
    chunk: int | None = None,
    tree: bool = False,
    round_casts: bool = False,
    noise: Noise | None = None,
) -> list[Array]:
    """Evaluate `function` of `module` in float64.

    Args:
        module: verified diag IR, at any stage between import and kernels with schedules.
        inputs: one array per argument, its axes in the order of the argument's type. Floats are
            taken as float64, integers as int64.
        function: name of the function.
        externs: for every extern that is called, by symbol: a callable from arrays to an array or
            a sequence of arrays.
        chunk: positions per step of every stream, instead of what the streams say.
        tree: fold chunks of streams apart and merge the states with their combine region.
        round_casts: round where a value becomes bf16, f16 or f32, instead of computing exactly.
        noise: random rounding errors, to see how much they matter.

    Returns:
        One array per result: float64, int64 or bool, axes in the order of the result's type.

    Raises:
        UserError: no such function, wrong number or shape of inputs, an extern that is missing.
        UnsupportedError: an op that has no reference meaning.
        InternalError: IR whose sizes contradict each other.
    """
    options = Options(module, externs or {}, chunk, tree, round_casts, noise)
    return _evaluate(find_function(module, function), inputs, options)


def evaluate_function(
    function: ir.Operation,
    inputs: Sequence[Array],
    *,
    module: ir.Module | None = None,
    externs: Externs | None = None,
    chunk: int | None = None,
    tree: bool = False,
    round_casts: bool = False,
) -> list[Array]:
    """Evaluate one `func.func` op; `module` is needed only when it calls others. As `evaluate`."""
    options = Options(module, externs or {}, chunk, tree, round_casts)
    return _evaluate(function, inputs, options)


def _evaluate(function: ir.Operation, inputs: Sequence[Array], options: Options) -> list[Array]:
    with np.errstate(all="ignore"):
        return evaluate_call(function.operation, [np.asarray(x) for x in inputs], options)
