"""The reference meaning of every diag op in float64 numpy: the oracle of all tests.

Written for trust, not for speed: each op has one rule that says what theory.md says it means, and
shares no code with the passes and targets that it judges.

>>> (out,) = evaluate(module, [q, k, v])                        # doctest: +SKIP
"""

from diagc.targets.interp.evaluate import evaluate, evaluate_function
from diagc.targets.interp.kernel import lower_kernel
from diagc.targets.interp.noise import Noise
from diagc.targets.interp.rounding import round_to
from diagc.targets.interp.rules import rule, rule_names

__all__ = [
    "Noise",
    "evaluate",
    "evaluate_function",
    "lower_kernel",
    "round_to",
    "rule",
    "rule_names",
]
