"""Sum-product networks: chains of contractions, through linear maps and products, as one sum.

A network is a product of wires (`leaves`, with axes renamed where a wire occurs twice) that is
summed over all axes that are not in the result. The order in which pairs are contracted is free;
`cheapest` finds the one with the fewest operations.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import prod

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import symbol
from diagc.algebra.monomials import Monomial, monomial
from diagc.algebra.scalars import read_map
from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["LARGEST_NETWORK", "Leaf", "Network", "Order", "cheapest", "network", "product_of"]

LARGEST_NETWORK = 8
"""Leaves of a network; the search for the best order is exponential in it."""


@dataclass(frozen=True)
class Leaf:
    """A wire as a factor of a network, or (an i1 wire) as a condition of it.

    `axes` are its labels in the network, in the order of the wire's own.
    """

    wire: ir.Value
    axes: tuple[str, ...]

    def renaming(self) -> dict[str, str]:
        """Own labels to those of the network, where they differ."""
        own = diag.labels(self.wire)
        return {old: new for old, new in zip(own, self.axes, strict=True) if old != new}


@dataclass(frozen=True)
class Network:
    """`number` times the product of `leaves` where all `conditions` hold, summed.

    Args:
        number: the constant factor.
        leaves: the wires.
        conditions: i1 wires; the product counts as 0 where one is false.
        result: labels of the result.
        sizes: size of every label, `diag.DYNAMIC` where open.
        sums: by label that is summed, the op that sums it.
    """

    number: float
    leaves: tuple[Leaf, ...]
    conditions: tuple[Leaf, ...]
    result: tuple[str, ...]
    sizes: Mapping[str, int]
    sums: Mapping[str, ir.Operation] = field(default_factory=dict)

    def kept(self, part: frozenset[int]) -> tuple[str, ...]:
        """Labels of the product of some leaves that the rest or the result still needs."""
        needed = set(self.result)
        for number, leaf in enumerate(self.leaves):
            if number not in part:
                needed.update(leaf.axes)
        axes = (axis for number in sorted(part) for axis in self.leaves[number].axes)
        return tuple(axis for axis in dict.fromkeys(axes) if axis in needed)


# ---- reading ------------------------------------------------------------------------------------


def product_of(op: ir.Operation) -> tuple[Monomial, dict[str, ir.Value]] | None:
    """The body of a map as a product over wires by name, or None."""
    wires: dict[str, ir.Value] = {}
    names: dict[ir.Value, str] = {}

    def leaf(wire: ir.Value) -> str:
        if wire not in names:
            names[wire] = f"w{len(names)}"
            wires[names[wire]] = wire
        return names[wire]

    found = monomial(read_map(op, lambda wire: symbol(leaf(wire))))
    return None if found is None else (found, wires)


def network(root: ir.Operation, through: Collection[ir.Operation]) -> Network | None:
    """The network that contraction or sum `root` computes, with the ops `through` taken apart."""
    reader = _Reader(through)
    own = {label: label for value in root.operands for label in diag.labels(value)}
    reader.taken.update(own)
    reader.sums = dict.fromkeys(reduced_axes(root), root)
    for value in root.operands:
        reader.read(value, own)
    if reader.failed:
        return None
    return Network(
        reader.number,
        tuple(reader.leaves),
        tuple(dict.fromkeys(reader.conditions)),
        diag.labels(root.results[0]),
        reader.sizes,
        reader.sums,
    )


class _Reader:
    def __init__(self, through: Collection[ir.Operation]) -> None:
        self._through = through
        self.number = 1.0
        self.leaves: list[Leaf] = []
        self.conditions: list[Leaf] = []
        self.sizes: dict[str, int] = {}
        self.sums: dict[str, ir.Operation] = {}
        self.taken: set[str] = set()
        self.failed = False

    def read(self, value: ir.Value, names: Mapping[str, str]) -> None:
        """Add the factors of a wire whose labels are called `names` in the network."""
        op = defining_op(value)
        if op is None or op not in self._through:
            self.leaves.append(self._leaf(value, names))
        elif op.name == "diag.map":
            self._read_map(op, names)
        elif op.name == "diag.relabel":
            old = dict(
                zip(
                    diag.strings(op.attributes["from"]),
                    diag.strings(op.attributes["to"]),
                    strict=True,
                )
            )
            inner = {label: names[old.get(label, label)] for label in diag.labels(op.operands[0])}
            self.read(op.operands[0], inner)
        else:
            fresh = {axis: self._fresh(axis) for axis in reduced_axes(op)}
            self.sums |= dict.fromkeys(fresh.values(), op)
            inner = dict(names) | fresh
            for operand in op.operands:
                self.read(operand, inner)

    def _read_map(self, op: ir.Operation, names: Mapping[str, str]) -> None:
        found = product_of(op)
        if found is None:
            self.failed = True
            return
        product, wires = found
        self.number *= product.number
        for name in product.factors:
            self.read(wires[name], names)
        for name in product.conditions:
            self.conditions.append(self._leaf(wires[name], names))

    def _leaf(self, value: ir.Value, names: Mapping[str, str]) -> Leaf:
        dims = diag.dims(value)
        axes = tuple(names[label] for label in dims)
        for axis, size in zip(axes, dims.values(), strict=True):
            self.sizes[axis] = diag.join_size(axis, self.sizes.get(axis, diag.DYNAMIC), size)
        return Leaf(value, axes)

    def _fresh(self, axis: str) -> str:
        """A name for a summed axis: its own, or with primes when a copy has that one."""
        name = axis
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name


# ---- the best order -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """How to contract some leaves: the two parts, and the operations in all."""

    part: frozenset[int]
    cost: float
    parts: "tuple[Order, Order] | None" = None

    def steps(self) -> Iterator["Order"]:
        """All orders below and this one, operands first."""
        for part in self.parts or ():
            yield from part.steps()
        yield self


def cheapest(net: Network, assumed_size: int) -> Order:
    """The order with the fewest operations; dynamic axes count as `assumed_size` long."""
    sizes = {a: assumed_size if s == diag.DYNAMIC else s for a, s in net.sizes.items()}
    numbers = range(len(net.leaves))
    kept: dict[frozenset[int], frozenset[str]] = {}
    work: dict[frozenset[str], float] = {}
    best: dict[frozenset[int], Order] = {}
    for count in range(1, len(net.leaves) + 1):
        for chosen in map(frozenset, combinations(numbers, count)):
            kept[chosen] = frozenset(net.kept(chosen))
            if count == 1:
                best[chosen] = Order(chosen, 0.0)
                continue
            found: tuple[float, Order, Order] | None = None
            for left, right in _splits(chosen, best):
                axes = kept[left.part] | kept[right.part]
                if axes not in work:
                    work[axes] = 2.0 * prod(sizes[axis] for axis in axes)
                cost = left.cost + right.cost + work[axes]
                if found is None or cost < found[0]:
                    found = (cost, left, right)
            assert found is not None  # two leaves or more can be split
            best[chosen] = Order(chosen, found[0], found[1:])
    return best[frozenset(numbers)]


def _splits(
    chosen: frozenset[int], best: Mapping[frozenset[int], Order]
) -> Iterator[tuple[Order, Order]]:
    """The ways to split leaves in two, the part with the first leaf in front."""
    first = min(chosen)
    rest = sorted(chosen - {first})
    for count in range(len(rest)):
        for others in combinations(rest, count):
            left = best[frozenset([first, *others])]
            yield left, best[chosen - left.part]
