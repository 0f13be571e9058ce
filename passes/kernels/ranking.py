"""Notes on a kernel which schedules were compared, and what the cost model said of each.

    diag.ranking = [{text = "48 lanes of q, chunks x = 64", seconds = 1.29e-2, bound = "fma"}, ...]

The chosen one stands first. It is a note for people: kernels that differ in it only are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diagc.cost import Estimate
from diagc.mlir import ir

__all__ = ["RANKING", "Ranked", "Ranking", "note_ranking", "read_ranking"]

RANKING = "diag.ranking"

Ranking = Sequence[tuple[str, Estimate]]
"""Schedules in words with their estimates, the chosen one first."""

MOST_SHOWN = 4
"""Schedules of a kernel that are noted."""


@dataclass(frozen=True)
class Ranked:
    """A schedule in words, the seconds that it is estimated to take, what bounds it."""

    text: str
    seconds: float
    bound: str


def note_ranking(kernel: ir.Operation, found: Ranking) -> None:
    """Note the first few of the schedules that were compared; nothing where there was no choice."""
    f64 = ir.F64Type.get()
    entries = [
        {
            "text": ir.StringAttr.get(text),
            "seconds": ir.FloatAttr.get(f64, estimate.seconds),
            "bound": ir.StringAttr.get(estimate.bound),
        }
        for text, estimate in found[:MOST_SHOWN]
    ]
    if len(entries) > 1:
        kernel.attributes[RANKING] = ir.ArrayAttr.get([ir.DictAttr.get(x) for x in entries])


def read_ranking(kernel: ir.Operation) -> tuple[Ranked, ...]:
    """What was noted, the chosen one first; empty where there was no choice."""
    if RANKING not in kernel.attributes:
        return ()
    return tuple(
        Ranked(
            ir.StringAttr(entry["text"]).value,
            ir.FloatAttr(entry["seconds"]).value,
            ir.StringAttr(entry["bound"]).value,
        )
        for entry in map(ir.DictAttr, ir.ArrayAttr(kernel.attributes[RANKING]))
    )
