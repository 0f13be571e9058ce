"""Whether the new order of a chain of contractions saves time, by the rates of a device."""

from math import prod

from diagc.algebra.networks import Network, Order
from diagc.cost import UNKNOWN_SIZE, Device, cpu_device
from diagc.dialects import diag
from diagc.passes.chain_search import Chain, Root

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
    device = cpu_device()
    return _old_seconds(chain, device) >= GAIN * sum(
        _new_seconds(root, device) for root in chain.roots
    )


def _old_seconds(chain: Chain, device: Device) -> float:
    nets = [root.network for root in chain.roots]
    ends = [axes for net in nets for axes in (net.result, *(leaf.axes for leaf in net.leaves))]
    moved = sum(_move_seconds(nets[0], axes, device) for axes in ends)
    return device.launch_seconds + max(chain.before / device.peak("f32"), moved)


def _new_seconds(root: Root, device: Device) -> float:
    steps = (step for step in root.order.steps() if step.parts is not None)
    return sum(_step_seconds(root.network, step, device) for step in steps)


def _step_seconds(net: Network, step: Order, device: Device) -> float:
    """The time of one product: start-up, and the larger of its operations and what it moves."""
    assert step.parts is not None
    left, right = (net.kept(part.part) for part in step.parts)
    work = 2.0 * _elements(net, {*left, *right}) / device.peak("f32")
    moved = sum(_move_seconds(net, axes, device) for axes in (left, right, net.kept(step.part)))
    return device.launch_seconds + max(work, moved)


def _move_seconds(net: Network, axes: tuple[str, ...], device: Device) -> float:
    """The time to read or write a wire once, from the fastest level that holds it."""
    size = _elements(net, set(axes)) * _ELEMENT_BYTES
    level = next((level for level in device.levels if size <= level.size), device.levels[-1])
    return size / level.bandwidth


def _elements(net: Network, axes: set[str]) -> int:
    sizes = (net.sizes[axis] for axis in axes)
    return prod(UNKNOWN_SIZE if size == diag.DYNAMIC else size for size in sizes)
