"""Build one `diag.map`: read operands, inline maps of positions, drop what turned out idle."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import MapOp, Use, View, positions
from diagc.frontend.torch.scalar import Expr, Operand, Position
from diagc.frontend.torch.simplify import rebuild

if TYPE_CHECKING:
    from diagc.frontend.torch.raiser import Raiser

__all__ = ["MapBuilder"]


class MapBuilder:
    """Collects the operands of one map; maps of positions alone are inlined into it."""

    def __init__(self, raiser: "Raiser") -> None:
        self.raiser = raiser
        self.uses: list[Use] = []

    def operand(self, view: View, inline: bool = False) -> tuple[Expr, list[list[Axis]]]:
        """The element of a view, and its dims in axes of this map.

        A map without operands (positions and literals) is always inlined; with `inline`, any map.
        """
        op = view.value.op
        use, dims = self.raiser.use(view)
        if isinstance(op, MapOp) and (inline or not op.uses):
            return self.inline_use(use), dims
        self.uses.append(use)
        return Operand(view.dtype, len(self.uses) - 1), dims

    def inline_use(self, use: Use) -> Expr:
        """The expression of the map that made a value, in axes of this map."""
        op = use.value.op
        assert isinstance(op, MapOp)
        local = {id(outer): inner for outer, inner in use.leaf_pairs()}
        numbers = {}
        for i, inner_use in enumerate(op.uses):
            pairs = [(outer, local[id(mine)]) for outer, mine in inner_use.leaf_pairs()]
            for outer, mine in pairs:
                self.raiser.space.link(outer, mine)
            numbers[i] = len(self.uses)
            self.uses.append(Use(inner_use.value, tuple(pairs)))

        def leaf(expr: Expr) -> Expr:
            if isinstance(expr, Operand):
                return Operand(expr.dtype, numbers[expr.number])
            if isinstance(expr, Position):
                return Position(expr.dtype, tuple(local[id(a)] for a in leaves(expr.axes)))
            return expr

        assert op.expr is not None
        return rebuild(op.expr, leaf)

    def finish(
        self,
        expr: Expr,
        dims: Sequence[Sequence[Axis]],
        suffix: str = "",
        every_axis: bool = False,
    ) -> View:
        """Add the map; a map that only passes on its operand is that operand."""
        flat = [a for dim in dims for a in leaves(dim)]
        uses, expr = _drop_unused(self.uses, expr)
        if isinstance(expr, Operand) and not every_axis:
            return _pass_on(uses[expr.number], dims)
        carried = {id(a) for use in uses for _, a in use.leaf_pairs()}
        carried |= {id(a) for a in leaves(positions(expr))}
        axes = tuple(a for a in flat if every_axis or id(a) in carried)
        assert isinstance(expr.dtype, torch.dtype)
        return self.raiser.add_value(MapOp(uses, expr=expr), axes, dims, expr.dtype, suffix)


def _pass_on(use: Use, dims: Sequence[Sequence[Axis]]) -> View:
    back = {id(local): outer for outer, local in use.leaf_pairs()}
    return View(use.value, tuple(tuple(back.get(id(a), a) for a in leaves(d)) for d in dims))


def _drop_unused(uses: Sequence[Use], expr: Expr) -> tuple[list[Use], Expr]:
    """Operands that simplification made superfluous disappear, equal readings become one."""
    kept: list[Use] = []
    numbers: dict[tuple[int, ...], int] = {}

    def leaf(part: Expr) -> Expr:
        if not isinstance(part, Operand):
            return part
        use = uses[part.number]
        key = (id(use.value), *(id(a) for pair in use.leaf_pairs() for a in pair))
        if key not in numbers:
            numbers[key] = len(kept)
            kept.append(use)
        return Operand(part.dtype, numbers[key])

    return kept, rebuild(expr, leaf)
