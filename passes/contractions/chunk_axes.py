"""Axes under a causal mask cut into chunks: names, masks within a chunk, views of wires."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from diagc.algebra.dataflow import defining_op
from diagc.algebra.expressions import select, symbol
from diagc.algebra.maps import map_expr
from diagc.algebra.networks import Leaf, Network
from diagc.algebra.refusal import Refusal
from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.passes.canonical.position_forms import Linear, mask_conditions
from diagc.passes.contractions.network_builder import is_placed

__all__ = ["CausalMasks", "ChunkAxes", "causal_masks"]


@dataclass(frozen=True)
class CausalMasks:
    """Conditions `row - key + offset >= 0`, with the offset by key axis: 0, or -1 where `<`."""

    row: str
    keys: Mapping[str, int]


def causal_masks(net: Network, op: ir.Operation) -> CausalMasks:
    """The masks of a network that no single leaf has the axes of.

    Raises:
        Refusal: there is none, or one is no causal mask.
    """
    masks = [condition for condition in net.conditions if not is_placed(net, condition)]
    forms = [form for mask in masks for form in _forms(mask, op)]
    rows = {label for form in forms for label, factor in form.factors if factor == 1}
    keys = {label: form.constant for form in forms for label, f in form.factors if f == -1}
    if len(rows) != 1 or len(keys) != len(forms):
        raise Refusal("masks over both operands of a contraction are no causal mask", op)
    (row,) = rows
    if row not in net.result or any(key not in net.sums for key in keys):
        raise Refusal(f'axis "{row}" of the mask is summed', op)
    return CausalMasks(row, keys)


def _forms(mask: Leaf, op: ir.Operation) -> tuple[Linear, ...]:
    source = defining_op(mask.wire)
    found = None if source is None or mask.renaming() else mask_conditions(source)
    if found is None or not found.exact:
        raise Refusal("a mask over both operands of a contraction is not of positions", op)
    for form in found.forms:
        factors = sorted(factor for _, factor in form.factors)
        if factors != [-1, 1] or form.constant not in (0, -1):
            raise Refusal(f"a mask over both operands is not causal: {form} >= 0", op)
    return found.forms


@dataclass(frozen=True)
class ChunkAxes:
    """Axes of `masks` in `count` chunks of `size`; `names` gives those of chunk and position."""

    masks: CausalMasks
    size: int
    count: int
    names: Mapping[str, tuple[str, str]]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that are cut: rows first."""
        return (self.masks.row, *self.masks.keys)

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the new axes."""
        chunks = {chunk: self.count for chunk, _ in self.names.values()}
        return chunks | {inner: self.size for _, inner in self.names.values()}

    def labels(self, labels: Collection[str], past: Collection[str] = ()) -> tuple[str, ...]:
        """Labels after cutting; keys that are not in `past` are in the chunk of the row."""
        found: dict[str, None] = {}
        for label in labels:
            chunk, inner = self.names.get(label, (label, label))
            if label in self.masks.keys and label not in past:
                chunk = self.names[self.masks.row][0]
            found.update(dict.fromkeys((chunk, inner)))
        return tuple(found)

    def dims(self, dims: Mapping[str, int], past: Collection[str] = ()) -> dict[str, int]:
        """As `labels`, with sizes."""
        known = {**dims, **self.sizes}
        return {label: known[label] for label in self.labels(dims, past)}

    def cut(self, wire: ir.Value, past: Collection[str] = ()) -> ir.Value:
        """A view of a wire whose axes are cut."""
        old = diag.dims(wire)
        if not set(self.axes) & set(old):
            return wire
        new = self.dims(old, past)
        place = {label: ir.AffineExpr.get_dim(n) for n, label in enumerate(new)}
        exprs = []
        for label in old:
            if label not in self.names:
                exprs.append(place[label])
                continue
            chunk, inner = self.labels([label], past)
            exprs.append(place[chunk] * self.size + place[inner])
        return diag.reindex(wire, new, ir.AffineMap.get(len(new), 0, exprs))

    def joined(self, wire: ir.Value, result: Mapping[str, int]) -> ir.Value:
        """The wire with the labelled sizes `result`: the chunks of rows behind each other."""
        place = {label: ir.AffineExpr.get_dim(n) for n, label in enumerate(result)}
        chunk, inner = self.names[self.masks.row]
        row = place[self.masks.row]
        place[chunk] = ir.AffineExpr.get_floor_div(row, self.size)
        place[inner] = ir.AffineExpr.get_mod(row, self.size)
        exprs = [place[label] for label in diag.labels(wire)]
        return diag.reindex(wire, result, ir.AffineMap.get(len(result), 0, exprs))

    def earlier(self, key: str, dtype: ir.Type) -> ir.Value:
        """1 where the chunk of a key comes before that of the row, else 0."""
        return self._numbers(self.names[self.masks.row][0], self.names[key][0], -1, dtype)

    def within(self, key: str, dtype: ir.Type) -> ir.Value:
        """1 where a key of the row's chunk counts, else 0."""
        inner = self.names[self.masks.row][1], self.names[key][1]
        return self._numbers(*inner, self.masks.keys[key], dtype)

    def _numbers(self, row: str, key: str, offset: int, dtype: ir.Type) -> ir.Value:
        mask = self._mask([(row, key, offset)])
        return map_expr(select(symbol("k"), 1.0, 0.0), {"k": mask}, dtype)

    def mask(self) -> ir.Value:
        """The mask of the keys in the row's chunk."""
        row = self.names[self.masks.row][1]
        keys = self.masks.keys.items()
        return self._mask([(row, self.names[key][1], offset) for key, offset in keys])

    def _mask(self, conditions: list[tuple[str, str, int]]) -> ir.Value:
        labels = dict.fromkeys(label for row, key, _ in conditions for label in (row, key))
        places = {label: diag.index(label, self.sizes[label]) for label in labels}

        def body(*scalars: ir.Value) -> ir.Value:
            at = dict(zip(labels, scalars, strict=True))
            found = [_compare(at[row], at[key], offset) for row, key, offset in conditions]
            whole = found[0]
            for other in found[1:]:
                whole = arith.andi(whole, other)
            return whole

        return diag.map_(list(places.values()), body, dtype=ir.IntegerType.get_signless(1))


def _compare(row: ir.Value, key: ir.Value, offset: int) -> ir.Value:
    """Whether `row + offset >= key`, with offset 0 or -1."""
    predicate = arith.CmpIPredicate.sge if offset == 0 else arith.CmpIPredicate.sgt
    return arith.cmpi(predicate, row, key)
