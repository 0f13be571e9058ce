"""Who runs the graph around the regions."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx

from diagc.torch_backend.options import BackendOptions

__all__ = ["run_rest"]

_KEPT_WHOLE = (
    "aten.index_add.default",
    "aten.embedding_dense_backward.default",
    "aten.threshold_backward.default",
)
"""Ops that torch's own kernels compute much faster on CPUs than the loops that Inductor makes of
their parts: sums at positions that are data (of rows, where Inductor adds single elements,
atomically), and gradients of a ReLU, of which Inductor keeps the mask. Two cores of a Zen 2: 1024 x
256 into 256 rows 0.78 ms, torch's kernel 0.06; an embedding's gradient, 512 x 256 into 1000 rows,
0.50 and 0.15; a ReLU of 1024 x 256 with its mask 1.83 and 0.13."""

_NO_CHANNELS_LAST: dict[str, Any] = {"layout_optimization": False}
"""A setting of Inductor, which on CPUs turns images of convolutions to channels last. Its loops
(max pool) and whole convolutions are slower so, grouped ones faster. Two cores of a Zen 2, 2 x 3 x
128 x 128: ResNet-18 38.0 ms, without 26.6, eager mode 30.5; MobileNetV2 (half as wide) 9.8, 12.5
and 15.9."""


def run_rest(
    module: fx.GraphModule, inputs: Sequence[Any], options: BackendOptions
) -> Callable[..., Any]:
    """The graph as a callable, as a backend of Dynamo gives it."""
    if options.rest == "eager":
        return module.forward
    from torch._inductor import list_mode_options
    from torch._inductor.compile_fx import compile_fx

    on_cpu = _is_on_cpu(inputs)
    patches = list_mode_options().get(options.mode, {}) if options.mode else {}
    if on_cpu and not any(map(_is_grouped, module.graph.nodes)):
        patches = {**_NO_CHANNELS_LAST, **patches}
    whole = _KEPT_WHOLE if on_cpu else ()
    # torch's cache of graphs that were differentiated does not look at decompositions
    tag = f"{torch.compiler.config.cache_key_tag} diagc {' '.join(whole)}"
    with torch.compiler.config.patch(cache_key_tag=tag):  # type: ignore[attr-defined]
        compiled = compile_fx(
            module, list(inputs), config_patches=patches, decompositions=_decompositions(whole)
        )
    return cast("Callable[..., Any]", compiled)


def _is_on_cpu(inputs: Sequence[Any]) -> bool:
    """Whether a graph with these inputs is what was measured: on other devices nothing was."""
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    return all(tensor.device.type == "cpu" for tensor in tensors)


def _is_grouped(node: fx.Node) -> bool:
    """Whether a call is a convolution whose weights do not see all channels, or transposed."""
    if "conv" not in str(node.target) or len(node.all_input_nodes) < 2:
        return False
    image, weights = (
        source.meta.get("val", source.meta.get("example_value"))
        for source in node.all_input_nodes[:2]
    )
    if not isinstance(image, torch.Tensor) or not isinstance(weights, torch.Tensor):
        return True
    return image.dim() != weights.dim() or image.shape[1] != weights.shape[1]


class _Table(dict[Any, Callable[..., Any]]):
    """Inductor's decompositions without some ops.

    They are part of the keys of Inductor's caches, and some of them cannot be pickled: this
    table is made again from the names of the ops.
    """

    def __init__(self, whole: Sequence[str]) -> None:
        from torch._inductor.decomposition import select_decomp_table

        rules = select_decomp_table()
        self.kept = [op for op in rules if str(op) in whole]
        super().__init__((op, rule) for op, rule in rules.items() if op not in self.kept)

    def __reduce__(self) -> tuple[type["_Table"], tuple[list[str]]]:
        return _Table, (sorted(map(str, self.kept)),)


def _decompositions(whole: Sequence[str]) -> _Table:
    """Inductor's, but for these ops, for which it learns to call torch's kernels.

    Graphs of others never reach these lowerings: in them the ops are decomposed before. Inductor
    would add them by itself, but not where the variable `CI` is set: it then fails.
    """
    from torch._inductor.lowering import lowerings, make_fallback, require_contiguous

    table = _Table(whole)
    for op in table.kept:
        if op not in lowerings:
            # kernels of gradients may read other layouts wrongly, as Inductor's own rule has it
            make_fallback(op, require_contiguous, warn=False, override_decomp=True)
    return table
