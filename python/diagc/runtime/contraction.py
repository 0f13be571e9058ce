"""Turn a labelled contraction of two strided arrays into one batched matrix product.

Every label is batch (in both operands and the result), rows (left only), columns (right only) or
inner (summed). A group of labels becomes one axis where its strides nest; an operand whose strides
do not nest is copied. Nothing here needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import prod

from diagc.runtime.strides import collapse, nests, permuted_strides

__all__ = ["Labelled", "MatrixProduct", "Operand", "plan_product"]


SMALLEST_MATRIX = 1024
"""Elements of a matrix from which on a call of the library costs little beside its product."""


@dataclass(frozen=True)
class Labelled:
    """An array by label: sizes and strides, in elements."""

    sizes: Mapping[str, int]
    strides: Mapping[str, int]

    def nests(self, group: Sequence[str]) -> bool:
        """Whether a group of its labels, slowest first, is one axis."""
        held = [x for x in group if x in self.sizes]
        return nests([self.sizes[x] for x in held], [self.strides[x] for x in held])

    def dense(self, order: Sequence[str]) -> "Labelled":
        """The same array copied to `order`, slowest first."""
        sizes = {label: self.sizes[label] for label in order}
        strides = permuted_strides(list(sizes.values()), range(len(sizes)))
        return Labelled(sizes, dict(zip(order, strides, strict=True)))


@dataclass(frozen=True)
class Operand:
    """One factor as a matrix, or a batch of them: what to view it as, after a copy if need be.

    Args:
        shape: of the view: (batch, rows, inner) or (batch, inner, columns).
        strides: of the view.
        copy: labels, slowest first, of the dense copy to make first; None for no copy.
    """

    shape: tuple[int, int, int]
    strides: tuple[int, int, int]
    copy: tuple[str, ...] | None


@dataclass(frozen=True)
class MatrixProduct:
    """out[batch, rows, columns] = first[batch, rows, inner] @ second[batch, inner, columns].

    Args:
        swapped: whether `first` is the right operand of the contraction.
        first: left factor.
        second: right factor.
        batch: labels of the batch of the dense result, slowest first.
        rows: of its rows.
        columns: of its columns.
    """

    swapped: bool
    first: Operand
    second: Operand
    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def out(self) -> tuple[str, ...]:
        """Labels of the dense result, slowest first."""
        return self.batch + self.rows + self.columns


def plan_product(
    lhs: Labelled, rhs: Labelled, over: Sequence[str], wanted: Sequence[str]
) -> MatrixProduct:
    """Choose groups, their orders and copies.

    Args:
        lhs: left operand.
        rhs: right operand.
        over: labels that are summed; both operands have them.
        wanted: labels of the result in the order in memory that consumers like, slowest first.
    """
    rows_are_fast = _fastest(wanted, lhs, rhs) == "lhs"
    first, second = (rhs, lhs) if rows_are_fast else (lhs, rhs)
    batch = [x for x in wanted if x in first.sizes and x in second.sizes]
    rows = [x for x in wanted if x not in second.sizes]
    columns = [x for x in wanted if x not in first.sizes]
    inner = _inner_order(first, second, over)
    rows, columns = _by_stride(first, rows), _by_stride(second, columns)
    batch = _by_stride(first, batch)
    sizes = {**lhs.sizes, **rhs.sizes}
    if not batch and not first.nests(rows):
        batch, rows = _hoist(first, rows)
    if not batch:
        batch, columns = _leading(wanted, rows, columns, sizes)
    return MatrixProduct(
        rows_are_fast,
        _operand(first, sizes, (batch, rows, inner)),
        _operand(second, sizes, (batch, inner, columns)),
        tuple(batch),
        tuple(rows),
        tuple(columns),
    )


def _fastest(wanted: Sequence[str], lhs: Labelled, rhs: Labelled) -> str:
    """Which operand alone has the label that should be fastest in memory."""
    for label in reversed(wanted):
        sizes = (lhs.sizes.get(label), rhs.sizes.get(label))
        if 1 in sizes:
            continue
        if None in sizes:
            return "lhs" if sizes[1] is None else "rhs"
    return "rhs"


def _by_stride(array: Labelled, group: Sequence[str]) -> list[str]:
    """A group from its largest stride to its smallest; equal ones stay in order."""
    return sorted(group, key=lambda x: -array.strides[x] if array.sizes[x] != 1 else 0)


def _inner_order(first: Labelled, second: Labelled, over: Sequence[str]) -> list[str]:
    """An order of the summed labels that nests in both, else one that spares the larger operand."""
    orders = [_by_stride(first, over), _by_stride(second, over)]
    for order in orders:
        if first.nests(order) and second.nests(order):
            return order
    larger = prod(first.sizes.values()) >= prod(second.sizes.values())
    return orders[0] if larger else orders[1]


def _hoist(first: Labelled, rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split rows that do not nest into outer ones, which become the batch, and inner ones.

    The other factor is the same for the whole batch (stride 0), so nothing is copied.
    """
    for cut in range(1, len(rows)):
        outer, rest = list(rows[:cut]), list(rows[cut:])
        if first.nests(outer) and first.nests(rest):
            return outer, rest
    return [], list(rows)


def _leading(
    wanted: Sequence[str], rows: Sequence[str], columns: Sequence[str], sizes: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Split columns that consumers want around the rows: those in front become the batch.

    So the result need not be copied; a batch of tiny matrices would cost more than that.
    """
    outer = list(takewhile(lambda label: label not in rows, wanted))
    rest = [label for label in columns if label not in outer]
    if outer and rest and prod(sizes[x] for x in (*rows, *rest)) >= SMALLEST_MATRIX:
        return outer, rest
    return [], list(columns)


def _operand(array: Labelled, sizes: Mapping[str, int], groups: Sequence[Sequence[str]]) -> Operand:
    """View an array as three axes; a label of a group that it lacks is broadcast."""
    copy = None
    if not all(array.nests(group) for group in groups):
        copy = tuple(x for group in groups for x in group if x in array.sizes)
        array = array.dense(copy)
    axes = [
        collapse([sizes[x] for x in group], [array.strides.get(x, 0) for x in group])
        for group in groups
    ]
    (b, b_step), (r, r_step), (c, c_step) = axes
    return Operand((b, r, c), (b_step, r_step, c_step), copy)
