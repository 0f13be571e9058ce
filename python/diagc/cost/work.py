"""The work of a kernel by pipe: products, additions, exponentials and the like."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from diagc.cost.accesses import Accesses, stream_axis, visited_fraction
from diagc.cost.ops import body_work, element_bytes, elements, op_flops
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Work", "kernel_work"]


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


def kernel_work(accesses: Accesses, groups: Mapping[str, int], chunks: Mapping[str, int]) -> Work:
    """The work of all tasks of a kernel; streams with a condition run rarely, they are left out.

    Args:
        accesses: the kernel at its sizes.
        groups: positions of one task, by axis.
        chunks: positions at a time of each streamed axis: whole chunks are computed.
    """
    counted = _Counted(accesses, groups, chunks)
    counted.block(diag.function_body(accesses.kernel), 1.0)
    return Work(counted.products, counted.additions, counted.specials)


def _zeros() -> "defaultdict[str, float]":
    return defaultdict(float)


@dataclass
class _Counted:
    accesses: Accesses
    groups: Mapping[str, int]
    chunks: Mapping[str, int]
    products: "defaultdict[str, float]" = field(default_factory=_zeros)
    additions: "defaultdict[str, float]" = field(default_factory=_zeros)
    specials: "defaultdict[str, float]" = field(default_factory=_zeros)

    def block(self, block: ir.Block, share: float) -> None:
        for view in block.operations:
            op = view.operation
            if op.name == "diag.stream":
                self._stream(op, share)
            elif op.name in ("diag.contract", "diag.map", "diag.reduce"):
                self._op(op, share)

    def _stream(self, op: ir.Operation, share: float) -> None:
        if len(op.operands):
            return
        chunk = self.chunks.get(stream_axis(op), 1)
        visited = visited_fraction(op, self.groups, chunk, self._sizes)
        init, body, _, tail = op.regions
        for region, part in ((init, share), (body, share * visited), (tail, share)):
            self.block(region.blocks[0], part)

    def _op(self, op: ir.Operation, share: float) -> None:
        dtype = str(diag.element_type(op.results[0]))
        if op.name == "diag.contract":
            types = [diag.element_type(value) for value in op.operands]
            self.products[str(min(types, key=element_bytes))] += share * op_flops(op, self._sizes)
        elif op.name == "diag.reduce":
            self.additions[dtype] += share * op_flops(op, self._sizes)
        else:
            count = share * elements(op.results[0], self._sizes)
            additions, specials = body_work(op)
            self.additions[dtype] += additions * count
            self.specials[dtype] += specials * count

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        return {**self.accesses.extents, **self.accesses.sizes}
