"""Questions about values of a function: who makes them, what they depend on, how large they are."""

from collections.abc import Callable, Iterator

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = [
    "argument_attribute",
    "carries",
    "defining_op",
    "depends_on",
    "elements",
    "erase_dead",
    "inputs",
    "is_constant",
    "is_parameter",
    "reduced_axes",
    "rounds_coarsely",
    "scalar_result",
]

_PARAMETER_KINDS = ("param", "buffer")


def defining_op(value: ir.Value) -> ir.Operation | None:
    """The op that gives `value`, or None for a block argument."""
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def carries(value: ir.Value, axis: str) -> bool:
    """Whether `value` is a wire with axis `axis`."""
    return diag.is_wire(value.type) and axis in diag.labels(value)


def elements(op: ir.Operation) -> list[ir.Operation]:
    """The `diag.element` ops of a map."""
    return [o for o in diag.walk_ops(op.regions[0]) if o.name == "diag.element"]


def scalar_result(op: ir.Operation) -> ir.Value:
    """The scalar that the body of a map yields."""
    return list(op.regions[0].blocks[0].operations)[-1].operation.operands[0]


def rounds_coarsely(op: ir.Operation) -> bool:
    """Whether a scalar op rounds to f8: no law of real numbers goes through it."""
    return op.name == "arith.truncf" and diag.is_stored_float(op.results[0].type)


def inputs(op: ir.Operation) -> list[ir.Value]:
    """Operands of `op` and outer values that its regions use, once each."""
    if not len(op.regions):
        return list(dict.fromkeys(op.operands))
    used: dict[ir.Value, None] = dict.fromkeys(op.operands)
    made: set[ir.Value] = set()
    for region in op.regions:
        _collect_uses(region, used, made)
    return [value for value in used if value not in made]


def _collect_uses(region: ir.Region, used: dict[ir.Value, None], made: set[ir.Value]) -> None:
    for block in region.blocks:
        made.update(block.arguments)
        for view in block.operations:
            op = view.operation
            used.update(dict.fromkeys(op.operands))
            made.update(op.results)
            for nested in op.regions:
                _collect_uses(nested, used, made)


def is_constant(value: ir.Value, number: float) -> bool:
    """Whether a scalar is the float constant `number`."""
    op = defining_op(value)
    if op is None or op.name != "arith.constant":
        return False
    attr = op.attributes["value"]
    return isinstance(attr, ir.FloatAttr) and attr.value == number


def reduced_axes(op: ir.Operation) -> list[str]:
    """The axes that a contraction or reduction sums over; none for other ops."""
    if op.name not in ("diag.contract", "diag.reduce"):
        return []
    return diag.strings(op.attributes["over"])


def depends_on(value: ir.Value, test: Callable[[ir.Operation], bool]) -> bool:
    """Whether an op that passes `test` is `value`'s producer or comes before it."""
    return any(test(op) for op in _ancestors(value))


def _ancestors(value: ir.Value) -> Iterator[ir.Operation]:
    stack, seen = [value], set()
    while stack:
        op = defining_op(stack.pop())
        if op is not None and op not in seen:
            seen.add(op)
            yield op
            stack.extend(inputs(op))


def argument_attribute(argument: ir.Value, name: str) -> ir.Attribute | None:
    """An attribute of an argument of a function; None where it has none of this name."""
    function = argument.owner.owner.operation
    if "arg_attrs" not in function.attributes:
        return None
    number = ir.BlockArgument(argument).arg_number
    attributes = ir.DictAttr(function.attributes["arg_attrs"][number])
    return next((entry.attr for entry in attributes if entry.name == name), None)


def is_parameter(argument: ir.Value) -> bool:
    """Whether an argument of a function is a parameter or buffer of the model."""
    kind = argument_attribute(argument, "diag.kind")
    return kind is not None and kind.value in _PARAMETER_KINDS


def erase_dead(op: ir.Operation) -> None:
    """Erase a pure op without users, and the producers that lose their last user by that."""
    if any(len(list(result.uses)) for result in op.results):
        return
    producers = [defining_op(value) for value in inputs(op)]
    op.erase()
    for producer in dict.fromkeys(p for p in producers if p is not None):
        if producer.name.startswith("diag."):
            erase_dead(producer)
