"""FLOPs and bytes of single ops, from their types alone."""

from collections.abc import Callable, Mapping
from math import prod

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = [
    "UNKNOWN_BATCH",
    "UNKNOWN_SIZE",
    "Sizes",
    "body_weight",
    "body_work",
    "element_bytes",
    "elements",
    "op_flops",
    "open_size",
    "stream_size",
    "value_bytes",
]

Sizes = Mapping[str, int]
"""Run-time sizes by label, for axes that types leave open."""

UNKNOWN_SIZE = 1024
"""The size taken for a dynamic axis that nobody bound: long enough that the axis counts as long."""

UNKNOWN_BATCH = 8
"""The size that predictions take for an open axis that only counts instances, such as heads."""

# What one scalar op costs, in units of one addition of a vector unit. Division and roots have an
# eighth of the throughput of a multiplication on current CPUs; exp is a polynomial of about ten
# multiply-adds, and erf, tanh and pow are about twice that.
_WEIGHTS = {
    "arith.constant": 0,
    "arith.divf": 8,
    "arith.divsi": 24,
    "arith.divui": 24,
    "arith.remf": 24,
    "arith.remsi": 24,
    "arith.remui": 24,
    "diag.element": 0,
    "diag.yield": 0,
    "math.absf": 1,
    "math.copysign": 1,
    "math.fma": 2,
    "math.rsqrt": 8,
    "math.sqrt": 8,
    "math.exp": 12,
    "math.exp2": 10,
}
_LINEAR_WEIGHT = 2
_MATH_WEIGHT = 24
_OTHER_WEIGHT = 1


def element_bytes(type_: ir.Type) -> int:
    """Bytes of one element; an i1 takes a whole one, an index eight."""
    if isinstance(type_, ir.IndexType):
        return 8
    return max(1, int(type_.width) // 8)


def elements(value: ir.Value | ir.Type | diag.Dims, sizes: Sizes | None = None) -> int:
    """Elements of a wire or of labelled sizes; open ones are `UNKNOWN_SIZE` unless `sizes` says.

    A scalar, which bodies of maps may read from outside, is one.
    """
    if isinstance(value, ir.Value) and not diag.is_wire(value.type):
        return 1
    dims = value if isinstance(value, dict) else diag.dims(value)
    return prod(open_size(label, size, sizes) for label, size in dims.items())


def open_size(label: str, size: int, sizes: Sizes | None = None) -> int:
    """The size of an axis: as its type has it, else as `sizes` says, else `UNKNOWN_SIZE`."""
    return size if size != diag.DYNAMIC else (sizes or {}).get(label, UNKNOWN_SIZE)


def value_bytes(value: ir.Value | ir.Type, sizes: Sizes | None = None) -> int:
    """Bytes of a wire in memory."""
    return elements(value, sizes) * element_bytes(diag.element_type(value))


def body_weight(op: ir.Operation) -> int:
    """What the scalar body of a map costs at one position, in additions."""
    return sum(_weight(nested.name) for nested in diag.walk_ops(op.regions[0]))


def body_work(op: ir.Operation) -> tuple[int, float]:
    """Of the same body: what takes as long as an addition, and exponentials' worth of the rest."""
    names = [nested.name for nested in diag.walk_ops(op.regions[0])]
    special = [_weight(name) for name in names if _is_special(name)]
    return body_weight(op) - sum(special), sum(special) / _WEIGHTS["math.exp"]


def _is_special(name: str) -> bool:
    """Whether a function is approximated, by a unit or a polynomial: roots and quotients too."""
    return name == "arith.divf" or (name.startswith("math.") and _weight(name) > _LINEAR_WEIGHT)


def _weight(name: str) -> int:
    fallback = _MATH_WEIGHT if name.startswith("math.") else _OTHER_WEIGHT
    return _WEIGHTS.get(name, fallback)


def _contract_flops(op: ir.Operation, sizes: Sizes | None) -> int:
    over = diag.strings(op.attributes["over"])
    summed = {label: size for label, size in diag.dims(op.operands[0]).items() if label in over}
    return 2 * elements(summed, sizes) * elements(op.results[0], sizes)


def _map_flops(op: ir.Operation, sizes: Sizes | None) -> int:
    return body_weight(op) * elements(op.results[0], sizes)


def _reduce_flops(op: ir.Operation, sizes: Sizes | None) -> int:
    return elements(op.operands[0], sizes)


def _stream_flops(op: ir.Operation, sizes: Sizes | None) -> int:
    """The body over the whole axis (`?` in a chunk's type is bound by `sizes`) and the tail."""
    bound = {**stream_size(op), **(sizes or {})}
    return sum(
        op_flops(nested.operation, bound) for region in op.regions for nested in _ops(region)
    )


def stream_size(op: ir.Operation) -> dict[str, int]:
    """The static size of the axis of a stream by its label, read off what is cut into chunks.

    Empty where the size is open.
    """
    axis = str(ir.StringAttr(op.attributes["axis"]).value)
    for nested in diag.walk_ops(op.regions[1]):
        if nested.name == "diag.chunk":
            size = diag.dims(nested.operands[0])[axis]
            if size != diag.DYNAMIC:
                return {axis: size}
    return {}


def _ops(region: ir.Region) -> list[ir.OpView]:
    return [op for block in region.blocks for op in block.operations]


_FLOPS: dict[str, Callable[[ir.Operation, Sizes | None], int]] = {
    "diag.contract": _contract_flops,
    "diag.map": _map_flops,
    "diag.reduce": _reduce_flops,
    "diag.stream": _stream_flops,
}


def op_flops(op: ir.Operation, sizes: Sizes | None = None) -> int:
    """FLOPs of one array-level op, exp and the like weighted; 0 for ops that only move data.

    Open sizes come from `sizes`, else `UNKNOWN_SIZE`.
    """
    count = _FLOPS.get(op.name)
    return 0 if count is None else count(op, sizes)
