"""`diagc.torch_backend.explain(model, *inputs)`: what the backend makes of a model, by graph."""

from collections import Counter
from collections.abc import Callable, Mapping
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
        breaks: why Dynamo cut the model into several graphs.
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

    torch._dynamo.reset()
    before = _graph_breaks()
    with collecting() as graphs:
        torch.compile(model, backend=backend)(*inputs, **kwargs)
    breaks = _graph_breaks() - before  # torch counts those of the whole process
    torch._dynamo.reset()
    return Explanation(graphs, list(breaks))


def _graph_breaks() -> Counter[str]:
    counts: Counter[str] = Counter()
    for reason, count in torch._dynamo.utils.counters["graph_break"].items():
        counts[str(reason).strip().split("\n")[0]] += count
    return counts
