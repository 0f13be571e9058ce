"""Who runs the graph around the regions."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import fx

from diagc.torch_backend.options import BackendOptions

__all__ = ["run_rest"]


def run_rest(
    module: fx.GraphModule, inputs: Sequence[Any], options: BackendOptions
) -> Callable[..., Any]:
    """The graph as a callable, as a backend of Dynamo gives it."""
    if options.rest == "eager":
        return module.forward
    from torch._inductor import list_mode_options
    from torch._inductor.compile_fx import compile_fx

    patches = list_mode_options().get(options.mode) if options.mode else None
    return cast("Callable[..., Any]", compile_fx(module, list(inputs), config_patches=patches))
