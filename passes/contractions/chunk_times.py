"""Estimated times on a GPU of causal sums, as one stream of scores and cut at chunks.

Cut, there are these kernels: each product of keys (states, and their sums over earlier chunks) is
one; scores within chunks and what multiplies rows with states are one, which reads the states and
all wires once; rows that lost accuracy are looked for in a pass over the results. Shares of the
peak of tensor cores are those that `product_times` assumes.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from diagc.algebra.networks import Network, Order
from diagc.cost import UNKNOWN_SIZE, Device, element_bytes
from diagc.dialects import diag
from diagc.passes.contractions.product_times import tensor_share

__all__ = ["SumTimes"]

_F32_BYTES = 4

_PRODUCTS = {0: 1, 1: 2, 2: 3}
"""That a product takes, by how many of its operands are f32, which are two numbers of tf32."""


class SumTimes:
    """Times of sums whose wires hold elements of one type.

    Args:
        device: a GPU.
        wide: whether sums are in f64, on no tensor cores.
    """

    def __init__(self, device: Device, *, wide: bool) -> None:
        self._device, self._wide = device, wide

    def streamed(self, nets: Sequence[Network], flops: float) -> float:
        """One stream on tensor cores that stores nothing but the sums."""
        dtype = _dtype(nets[0])
        work = self._product(flops, [dtype, dtype], bulk=dtype != "f32")
        return self._kernel(work, _ends(nets))

    def in_chunks(
        self, orders: Iterable[tuple[Network, Order]], row: str, near: float, *, guarded: bool
    ) -> float:
        """States, their sums, and one kernel for all rows.

        Args:
            orders: networks with cut axes, each in its best order.
            row: the axis of positions of rows in a chunk.
            near: FLOPs of scores and sums within chunks.
            guarded: whether rows may be computed again.
        """
        pairs = list(orders)
        nets = [net for net, _ in pairs]
        rows = self._product(near, [_dtype(nets[0])] * 2)
        seconds, states = 0.0, 0
        for net, order in pairs:
            for step, operands in _products(order):
                kept = [net.kept(operand.part) for operand in operands]
                read = sum(self._bytes(net, operand) for operand in operands)
                if row not in (*kept[0], *kept[1]):
                    seconds += self._kernel(
                        self._work(net, operands), read + self._bytes(net, step)
                    )
                    continue
                rows += self._work(net, operands)
                inner = [operand for operand in operands if row not in net.kept(operand.part)]
                states += sum(self._bytes(net, operand) for operand in inner)
        seconds += self._kernel(rows, _ends(nets) + states)
        return seconds + (self._kernel(0.0, 2 * _results(nets)) if guarded else 0.0)

    def _kernel(self, work: float, moved: float) -> float:
        return self._device.launch_seconds + max(work, moved / self._device.levels[-1].bandwidth)

    def _work(self, net: Network, operands: Sequence[Order]) -> float:
        """Seconds of one product."""
        axes = {axis for operand in operands for axis in net.kept(operand.part)}
        flops = 2.0 * _elements(net, axes)
        if self._wide:
            return flops / self._device.peak("f64")
        sums = ("f32" if operand.parts else _dtype(net) for operand in operands)
        return self._product(flops, list(sums))

    def _product(self, flops: float, dtypes: Sequence[str], *, bulk: bool = False) -> float:
        """Seconds on tensor cores, of operands of these types."""
        wide = dtypes.count("f32")
        rate = self._device.product_rate("f32" if wide else dtypes[0])
        return _PRODUCTS[wide] * flops / (tensor_share(bulk=bulk) * rate)

    def _bytes(self, net: Network, part: Order) -> int:
        size = 2 * _F32_BYTES if self._wide else _F32_BYTES
        if part.parts is None:
            (number,) = part.part
            size = element_bytes(diag.element_type(net.leaves[number].wire))
        return _elements(net, net.kept(part.part)) * size


def _products(order: Order) -> Iterator[tuple[Order, tuple[Order, Order]]]:
    for step in order.steps():
        if step.parts is not None:
            yield step, step.parts


def _dtype(net: Network) -> str:
    return str(diag.element_type(net.leaves[0].wire))


def _ends(nets: Sequence[Network]) -> int:
    """Bytes of all wires, each once, and of the sums in f32."""
    leaves = {leaf.wire: (net, leaf) for net in nets for leaf in net.leaves}
    read = sum(
        _elements(net, leaf.axes) * element_bytes(diag.element_type(wire))
        for wire, (net, leaf) in leaves.items()
    )
    return read + _results(nets)


def _results(nets: Sequence[Network]) -> int:
    return sum(_elements(net, net.result) * _F32_BYTES for net in nets)


def _elements(net: Network, axes: Iterable[str]) -> int:
    sizes = (net.sizes[axis] for axis in axes)
    return prod(UNKNOWN_SIZE if size == diag.DYNAMIC else size for size in sizes)
