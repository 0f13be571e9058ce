"""Whether the new order of a chain of contractions saves time, by the rates of a device."""

from math import prod

from diagc.algebra.networks import Network, Order
from diagc.cost import UNKNOWN_SIZE, Device, deciding_device, step_seconds
from diagc.dialects import diag
from diagc.passes.contractions.chain_search import Chain, Root

__all__ = ["GAIN", "saves_time"]

GAIN = 1.5
"""How many times less the new order must take: neither order is predicted exactly."""

_ELEMENT_BYTES = 4
"""Sums of products are in f32."""


def saves_time(chain: Chain) -> bool:
    """Whether a chain that needs no guard takes clearly less time in its new order.

    The old order is taken at its best, as one stream that stores no wire between its operations;
    the new one stores every product. So a matrix that grows when it is summed first counts.
    """
    device = deciding_device()
    return _old_seconds(chain, device) >= GAIN * sum(
        _new_seconds(root, device) for root in chain.roots
    )


def _old_seconds(chain: Chain, device: Device) -> float:
    nets = [root.network for root in chain.roots]
    ends = [axes for net in nets for axes in (net.result, *(leaf.axes for leaf in net.leaves))]
    return step_seconds(chain.before, (_bytes(nets[0], axes) for axes in ends), device)


def _new_seconds(root: Root, device: Device) -> float:
    steps = (step for step in root.order.steps() if step.parts is not None)
    return sum(_product_seconds(root.network, step, device) for step in steps)


def _product_seconds(net: Network, step: Order, device: Device) -> float:
    assert step.parts is not None
    left, right = (net.kept(part.part) for part in step.parts)
    flops = 2.0 * _elements(net, {*left, *right})
    wires = (_bytes(net, axes) for axes in (left, right, net.kept(step.part)))
    return step_seconds(flops, wires, device)


def _bytes(net: Network, axes: tuple[str, ...]) -> int:
    return _elements(net, set(axes)) * _ELEMENT_BYTES


def _elements(net: Network, axes: set[str]) -> int:
    sizes = (net.sizes[axis] for axis in axes)
    return prod(UNKNOWN_SIZE if size == diag.DYNAMIC else size for size in sizes)
