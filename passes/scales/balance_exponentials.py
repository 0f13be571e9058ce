"""Subtract a maximum where exponentials may overflow, and split logarithms of sums off exponents.

Before (softmax as it is written without a maximum):

    %e = "diag.map"() ({ exp(s) })
    %z = "diag.reduce"(%e) {over = ["x"], kind = "add"}
    %p = "diag.map"() ({ e / z })

After:

    %m = "diag.reduce"(%s) {over = ["x"], kind = "max"}
    %c = "diag.map"() ({ select(m == -inf, 0, m) })
    %e = "diag.map"() ({ exp(s - c) })
    %z = "diag.reduce"(%e) {over = ["x"], kind = "add"}
    %p = "diag.map"() ({ e / z })

and `exp(s - log z)` with z the sum of exp(s) becomes `exp(s) / z`, `s - (c + log z)` with z the sum
of exp(s - c) becomes `(s - c) - log z`. So all spellings of softmax, of log-sum-exp and of what is
made of them are one. What is subtracted already and does not vary along the row (the maximum of
several rows, say) is dropped in favour of the row's own maximum.

Requires: normalisers are expanded; run on functions. The exponential is summed, and no result of
the function depends on its scale: every sum has summands of one degree in it (`homogeneity.py`).
Terms of the row that are added to such a sum, as in `1 + z`, are scaled along, with a maximum of at
least 0. The maximum is that of positions that count: `exp(s) * keep` is `exp(s)` of s, -inf where
keep is 0.

Declines: an exponent that has its own maximum subtracted; a result that depends on the scale, such
as a plain sum of exponentials; products with different factors before they are summed.
"""

from dataclasses import dataclass
from typing import ClassVar

from diagc.algebra.graph import Graph
from diagc.algebra.wire_terms import WireTerms
from diagc.mlir import ir
from diagc.passes.base import Pass
from diagc.passes.canonical.canonicalize_diag import erase_dead_ops
from diagc.passes.scales.exponential_scales import find_scales
from diagc.passes.scales.log_splits import split_logs

__all__ = ["BalanceExponentialsPass"]


@dataclass(frozen=True)
class BalanceExponentialsPass(Pass):
    """subtract a maximum where exponentials may overflow, split logs of sums off exponents."""

    name: ClassVar[str] = "balance-exponentials"

    def run(self, op: ir.Operation) -> None:
        """Rewrite every block of the function until nothing is left to do."""
        for block in op.regions[0].blocks:
            split_logs(Graph(block), WireTerms())
            erase_dead_ops(op)  # a logarithm that nobody reads shall not ask for a scale
            _balance(block)


def _balance(block: ir.Block) -> None:
    """One exponential after the other, each from a new snapshot of the block."""
    while (scale := find_scales(Graph(block), WireTerms())) is not None:
        scale.apply()
