"""Map bodies, one element at a time: what is asked for is emitted, what is constant is folded."""

from collections.abc import Callable

from diagc.dialects import diag
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.instructions import Code
from diagc.targets.nvptx.tiles.references import References
from diagc.targets.nvptx.tiles.scalars import Scalar, as_value, emit_scalar

__all__ = ["MapBody"]


class MapBody:
    """The body of one `diag.map`.

    Args:
        code: emitter.
        op: the map.
        relative: whether exponentials of differences may be taken as `references` does.
    """

    def __init__(self, code: Code, op: ir.Operation, *, relative: bool = False) -> None:
        self.code, self.op = code, op
        self._references = References(code) if relative else None
        ops = [view.operation for view in op.regions[0].blocks[0].operations]
        self.result: ir.Value = ops[-1].operands[0]

    def emit(self, read: Callable[[ir.Value], Scalar]) -> Scalar:
        """The scalar that the map yields; `read` gives the element of a wire."""
        return self.evaluate(self.result, read, {})

    def evaluate(
        self, value: ir.Value, read: Callable[[ir.Value], Scalar], known: dict[ir.Value, Scalar]
    ) -> Scalar:
        """A scalar of the body, with all that it depends on."""
        if value in known:
            return known[value]
        op = value.owner.operation if not isinstance(value.owner, ir.Block) else None
        assert op is not None, "scalars of a map body are results of ops"
        if op.name == "diag.element":
            found = read(op.operands[0])
        elif op.name == "arith.select":
            found = self._select(op, read, known)
        elif self._references is not None and _is_below(op):
            found = self._power(self._references, op.operands[0].owner.operation, read, known)
        else:
            operands = [self.evaluate(operand, read, known) for operand in op.operands]
            found = emit_scalar(self.code, op, operands)
        known[value] = found
        return found

    def _select(
        self,
        op: ir.Operation,
        read: Callable[[ir.Value], Scalar],
        known: dict[ir.Value, Scalar],
    ) -> Scalar:
        """A known condition needs one branch only."""
        condition = self.evaluate(op.operands[0], read, known)
        if isinstance(condition, bool):
            return self.evaluate(op.operands[1 if condition else 2], read, known)
        branches = [self.evaluate(operand, read, known) for operand in op.operands[1:3]]
        values = [as_value(self.code, op.results[0].type, branch) for branch in branches]
        return arith.select(condition, *values)

    def _power(
        self,
        references: References,
        difference: ir.Operation,
        read: Callable[[ir.Value], Scalar],
        known: dict[ir.Value, Scalar],
    ) -> ir.Value:
        """The exponential of a difference: of an element and its row's reference, or of two."""
        value, reference = (
            as_value(self.code, operand.type, self.evaluate(operand, read, known))
            for operand in difference.operands
        )
        if self._is_of_rows(difference.operands[1]):
            return references.power(value, reference)
        return references.correction(value, reference)

    def _is_of_rows(self, scalar: ir.Value) -> bool:
        """Whether a scalar is an element of a wire that lacks an axis of the map."""
        op = scalar.owner.operation
        if op.name != "diag.element":
            return False
        return set(diag.labels(op.operands[0])) < set(diag.labels(self.op.results[0]))

    @property
    def addends(self) -> tuple[ir.Value, ir.Value] | None:
        """The two terms when the body ends with an addition of floats."""
        owner = self.result.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "arith.addf":
            return None
        return owner.operation.operands[0], owner.operation.operands[1]


def _is_below(op: ir.Operation) -> bool:
    """Whether it is the exponential of a difference that is not positive."""
    if op.name != "math.exp" or "diag.nonpositive" not in op.attributes:
        return False
    return bool(op.operands[0].owner.operation.name == "arith.subf")
