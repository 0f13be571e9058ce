"""`torch.compile(model, backend="diagc")`: regions that stream become kernels, the rest is torch's.

Dynamo's graph is traced to un-decomposed ATen (`graph`), cut into stretches without side effects
(`stretches`), and each is taken through diagc's own passes to see which of its calls end up in one
kernel (`regions`). Such a region becomes one call of a compiled function (`splice`); the graph with
those calls goes on to Inductor, or runs as it is (`rest`). Nothing that goes wrong on the way fails
a model: its calls stay in torch, with the reason in the report (`report`) and in the log.

This happens before autograd, whose forward graph would already save what streaming avoids.
"""

from diagc.torch_backend.backend import diagc
from diagc.torch_backend.explain import explain

__all__ = ["diagc", "explain"]
