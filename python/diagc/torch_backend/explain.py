"""`diagc.torch_backend.explain(model, *inputs)`: what the backend makes of a model, by graph."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from traceback import FrameSummary
from typing import Any

import torch

from diagc.errors import UserError
from diagc.torch_backend.backend import diagc
from diagc.torch_backend.options import read_options
from diagc.torch_backend.report import GraphReport, collecting

__all__ = ["Explanation", "explain"]


class Explanation:
    """What became of a model's graphs.

    Args:
        graphs: reports, in the order in which Dynamo met the graphs.
        breaks: why Dynamo cut the model into several graphs, and where.
    """

    def __init__(self, graphs: list[GraphReport], breaks: list[str]) -> None:
        """Collect; prints itself."""
        self.graphs = graphs
        self.breaks = breaks

    @property
    def regions(self) -> int:
        """Number of regions that run as kernels of diagc."""
        return sum(len(graph.regions) for graph in self.graphs)

    def __str__(self) -> str:
        """Region by region: taken, left, and why."""
        parts = [f"graph {i}: {graph.text()}" for i, graph in enumerate(self.graphs)]
        parts += [f"graph break: {reason}" for reason in self.breaks]
        return "\n".join(parts) or "torch.compile met no graph of tensors"

    __repr__ = __str__


def explain(
    model: Callable[..., Any],
    *inputs: Any,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Explanation:
    """Compile a model for `torch.compile(…, backend="diagc")`, and say what was taken and why not.

    The model runs once on the inputs, with the rest in eager mode. Gradients are recorded if they
    are on, so that the report is of the same graphs as a training step has.

    Args:
        model: a function or nn.Module.
        inputs: positional arguments of one call.
        mode: as torch.compile takes it.
        options: of the backend.
        kwargs: keyword arguments of that call.

    Raises:
        UserError: no such option, or `model` is not callable.
    """
    if not callable(model):
        expected = "a function or nn.Module"
        raise UserError("nothing to explain", expected=expected, found=type(model).__name__)
    chosen = {**(options or {}), "rest": "eager"}
    chosen.setdefault("take", read_options(mode, options).take)

    def backend(module: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        return diagc(module, examples, mode=mode, options=chosen)

    from torch._dynamo.utils import graph_break_reasons

    torch._dynamo.reset()
    counted, located = _counted(), len(graph_break_reasons)
    with collecting() as graphs:
        torch.compile(model, backend=backend)(*inputs, **kwargs)
    # torch has those of the whole process
    breaks = _breaks(graph_break_reasons[located:], _counted() - counted)
    torch._dynamo.reset()
    return Explanation(graphs, breaks)


def _counted() -> Counter[str]:
    counts: Counter[str] = Counter()
    for reason, count in torch._dynamo.utils.counters["graph_break"].items():
        counts[_first_line(reason)] += count
    return counts


def _breaks(located: Sequence[Any], counted: Iterable[str]) -> list[str]:
    """Reasons with their places.

    Torch tells a place where it goes on in the same function, and does not count branches there;
    where it gives a function up it only counts.
    """
    reasons = [_BRANCH if r.reason.startswith(_JUMP) else _first_line(r.reason) for r in located]
    found = [reason + _place(r.user_stack) for reason, r in zip(reasons, located, strict=True)]
    return list(dict.fromkeys([*found, *(reason for reason in counted if reason not in reasons)]))


_JUMP, _BRANCH = "generic_jump", "Data-dependent branching"
"""How torch begins the reason of a branch on values of a tensor, and what it is called in counts.
"""


def _first_line(reason: object) -> str:
    return str(reason).strip().split("\n")[0]


def _place(stack: Sequence[FrameSummary]) -> str:
    return f" at {stack[-1].filename}:{stack[-1].lineno}" if stack else ""
