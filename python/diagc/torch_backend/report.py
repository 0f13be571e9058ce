"""What became of a graph: the regions that were taken, and what stayed in torch and why."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import fx

from diagc.debug import logger
from diagc.frontend.torch.from_fx import node_location
from diagc.frontend.torch.row_ops import keeps_rows
from diagc.torch_backend.left import why_left
from diagc.torch_backend.stretches import is_number, is_view

if TYPE_CHECKING:
    from diagc.api import CompiledFunction

__all__ = ["GraphReport", "RegionReport", "calls_of", "collecting", "left_calls", "record"]


@dataclass(frozen=True)
class RegionReport:
    """A region that runs as kernels of ours.

    Args:
        calls: what it replaces, `softmax.int at model.py:12:8`.
        compiled: runs it; tells kernels, streams and laws.
    """

    calls: tuple[str, ...]
    compiled: "CompiledFunction"

    def text(self) -> str:
        """A few lines: calls, kernels, streams."""
        lines = [f"  taken: {', '.join(self.calls)}"]
        for kernel in self.compiled.kernels:
            laws = "; ".join(kernel.streams) or "no stream"
            lines.append(f"    kernel {kernel.name} ({kernel.target}): {laws}")
        return "\n".join(lines)


@dataclass
class GraphReport:
    """One graph of Dynamo's.

    Args:
        regions: that were taken.
        left: numbers of calls that stayed in torch, by op, for each reason.
        reasons: why something that might have been taken was not.
        unsteady: calls that stayed in torch and choose their code by the number of rows.
    """

    regions: list[RegionReport] = field(default_factory=list)
    left: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For people."""
        return "\n".join(
            [
                f"{len(self.regions)} regions are kernels of diagc",
                *(region.text() for region in self.regions),
                *(f"  not taken: {reason}" for reason in self.reasons),
                *(f"  in torch: {_list(ops)}: {reason}" for reason, ops in self.left.items()),
            ]
        )


def calls_of(nodes: Iterable[fx.Node]) -> tuple[str, ...]:
    """Ops and places of the user's code."""
    found = []
    for node in nodes:
        if not is_number(node):
            place = node_location(node)
            found.append(f"{_short(node)} at {place}" if place else _short(node))
    return tuple(dict.fromkeys(found))


def left_calls(nodes: Iterable[fx.Node]) -> dict[str, Counter[str]]:
    """Calls that are torch's by op, for each reason."""
    found: dict[str, Counter[str]] = {}
    for node in nodes:
        reason = why_left(node)
        if reason is not None:
            found.setdefault(reason, Counter())[_short(node)] += 1
    return found


def unsteady_calls(nodes: Iterable[fx.Node]) -> list[str]:
    """Calls that are torch's and promise rows nothing: see `diagc.frontend.torch.row_ops`."""
    return [call for node in nodes if _is_unsteady(node) for call in calls_of([node])]


def _is_unsteady(node: fx.Node) -> bool:
    if why_left(node) is None or is_view(node):
        return False
    values = (source.meta.get("val") for source in node.all_input_nodes)
    floats = any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in values)
    return not keeps_rows(node.target, floats)


def _list(ops: Counter[str]) -> str:
    return ", ".join(f"{op} x{n}" if n > 1 else op for op, n in ops.most_common())


def _short(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").removesuffix(".default")


_COLLECTORS: list[list[GraphReport]] = []


@contextmanager
def collecting() -> Iterator[list[GraphReport]]:
    """Reports of all graphs that are compiled within."""
    found: list[GraphReport] = []
    _COLLECTORS.append(found)
    try:
        yield found
    finally:
        _COLLECTORS.remove(found)


def record(report: GraphReport) -> None:
    """Log a report (`DIAGC_LOG=info`), and give it to who collects."""
    logger("torch_backend").info("%s", report.text())
    for collector in _COLLECTORS:
        collector.append(report)
