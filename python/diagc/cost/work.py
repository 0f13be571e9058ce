"""The work of a kernel by pipe: products, additions, exponentials and the like."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod

from diagc.cost.accesses import Accesses, stream_axis
from diagc.cost.ops import body_work, element_bytes, elements, op_flops
from diagc.cost.residency import is_summed_up
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["KernelWork", "Work"]


@dataclass(frozen=True)
class Work:
    """What is computed at the scalar level, by element type.

    Args:
        products: FLOPs of contractions, by the narrower type of both operands: what the other one
            holds is rounded to it, where a unit multiplies such pairs.
        additions: operations that take as long as an addition, by the type of the result.
        specials: exponentials and the like.
    """

    products: Mapping[str, float] = field(default_factory=dict)
    additions: Mapping[str, float] = field(default_factory=dict)
    specials: Mapping[str, float] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        """Products and additions."""
        return sum(self.products.values()) + sum(self.additions.values())


@dataclass(frozen=True)
class _Item:
    """Work of one op at full sizes; the streams around it may visit less.

    `again` are those streams whose axis the op lacks: it works anew for each of their chunks.
    """

    kind: str
    dtype: str
    amount: float
    streams: tuple[ir.Operation, ...]
    again: tuple[ir.Operation, ...] = ()


@dataclass(frozen=True)
class KernelWork:
    """The work of a kernel, under any decoration.

    Streams with a condition run rarely, they are left out.
    """

    accesses: Accesses

    def under(self, groups: Mapping[str, int], chunks: Mapping[str, int]) -> Work:
        """The work of all tasks.

        Args:
            groups: positions of one task, by axis.
            chunks: positions at a time of each streamed axis: whole chunks are computed.
        """
        found: dict[str, defaultdict[str, float]] = {
            kind: defaultdict(float) for kind in ("products", "additions", "specials")
        }
        for item in self._items:
            share = prod(
                self.accesses.visited(stream, groups, chunks.get(stream_axis(stream), 1))
                for stream in item.streams
            )
            times = prod(self._chunks(stream, chunks) for stream in item.again)
            found[item.kind][item.dtype] += item.amount * share * times
        return Work(**found)

    def _chunks(self, stream: ir.Operation, chunks: Mapping[str, int]) -> int:
        axis = stream_axis(stream)
        size = self.accesses.all_sizes.get(axis, 1)
        return ceil(size / chunks.get(axis, size or 1))

    @cached_property
    def _items(self) -> tuple[_Item, ...]:
        body = diag.function_body(self.accesses.kernel)
        return tuple(_block_items(body, (), self.accesses.all_sizes))


def _block_items(
    block: ir.Block, streams: tuple[ir.Operation, ...], sizes: Mapping[str, int]
) -> Iterator[_Item]:
    for view in block.operations:
        op = view.operation
        if op.name == "diag.stream" and not len(op.operands):
            init, body, _, tail = op.regions
            yield from _block_items(init.blocks[0], streams, sizes)
            yield from _block_items(body.blocks[0], (*streams, op), sizes)
            yield from _block_items(tail.blocks[0], streams, sizes)
        elif op.name in _KINDS:
            yield from _op_items(op, streams, sizes)


_KINDS = ("diag.contract", "diag.map", "diag.reduce")


def _op_items(
    op: ir.Operation, streams: tuple[ir.Operation, ...], sizes: Mapping[str, int]
) -> Iterator[_Item]:
    dtype = str(diag.element_type(op.results[0]))
    if op.name == "diag.contract":
        types = [diag.element_type(value) for value in op.operands]
        narrow = str(min(types, key=element_bytes))
        yield _Item("products", narrow, op_flops(op, sizes), streams)
    elif op.name == "diag.reduce":
        labels = diag.labels(op.operands[0])
        yield _Item("additions", dtype, op_flops(op, sizes), streams, _without(streams, labels))
    else:
        count = elements(op.results[0], sizes)
        additions, specials = body_work(op)
        additions -= _summed_up(op)
        again = _without(streams, diag.labels(op.results[0]))
        yield _Item("additions", dtype, additions * count, streams, again)
        yield _Item("specials", dtype, specials * count, streams, again)


def _summed_up(op: ir.Operation) -> int:
    """Additions of products that are summed up in their state: a multiply-add has them anyway."""
    elements_ = (inner for inner in diag.walk_ops(op.regions[0]) if inner.name == "diag.element")
    return sum(is_summed_up(element.operands[0]) for element in elements_)


def _without(streams: tuple[ir.Operation, ...], labels: Sequence[str]) -> tuple[ir.Operation, ...]:
    """The streams whose axis is not among the labels."""
    return tuple(stream for stream in streams if stream_axis(stream) not in labels)
