"""The meaning of the ops on whole wires: contract, map, reduce, reindex and the like."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diagc import normalizer_meaning
from diagc.dialects import diag
from diagc.mlir import ir
from diagc.targets.interp.frame import Frame
from diagc.targets.interp.rounding import Array, numpy_dtype, round_to
from diagc.targets.interp.rules import evaluate_block, rule

__all__ = ["align"]


def align(array: Array, axes: Sequence[str], wanted: Sequence[str]) -> Array:
    """Permute `array` with axes called `axes` to the order `wanted`; missing axes get size 1."""
    order = [axes.index(label) for label in wanted if label in axes]
    shape = [array.shape[axes.index(label)] if label in axes else 1 for label in wanted]
    return np.transpose(array, order).reshape(shape)


def _rounded(array: Array, type_: ir.Type, frame: Frame) -> Array:
    """What an op stores in a result of a float type narrower than its sums."""
    element = diag.element_type(type_)
    if not frame.options.round_casts or not diag.is_float(element):
        return array
    return round_to(array, str(element))


@rule("diag.contract")
def _contract(op: ir.Operation, frame: Frame) -> list[Array]:
    lhs, rhs = frame.operands(op)
    left, right = (diag.labels(operand) for operand in op.operands)
    over = set(diag.strings(op.attributes["over"]))
    woven = [label for label in left if label in right and label not in over]
    rows = [label for label in left if label not in right]
    columns = [label for label in right if label not in left]
    summed = [label for label in left if label in over]
    size = dict(zip([*left, *right], [*lhs.shape, *rhs.shape], strict=True))

    def flat(*groups: list[str]) -> list[int]:
        return [int(np.prod([size[label] for label in group], dtype=int)) for group in groups]

    first = align(lhs, left, [*woven, *rows, *summed]).reshape(flat(woven, rows, summed))
    second = align(rhs, right, [*woven, *summed, *columns]).reshape(flat(woven, summed, columns))
    axes = [*woven, *rows, *columns]
    product = np.matmul(first, second).reshape([size[label] for label in axes])
    result = op.results[0]
    return [_rounded(align(product, axes, diag.labels(result)), result.type, frame)]


@rule("diag.map")
def _map(op: ir.Operation, frame: Frame) -> list[Array]:
    result = op.results[0].type
    (block,) = op.regions[0].blocks
    # Sizes of axes: as read, so that a chunk of an axis gives a chunk; else as the frame says.
    read: dict[str, int] = {}
    for element in block.operations:
        if element.operation.name == "diag.element":
            source = element.operation.operands[0]
            read |= dict(zip(diag.labels(source), frame[source].shape, strict=True))
    (value,) = evaluate_block(block, frame)
    shape = [
        read[label] if label in read else frame.size(label, static)
        for label, static in diag.dims(result).items()
    ]
    return [np.broadcast_to(value, shape)]


@rule("diag.element")
def _element(op: ir.Operation, frame: Frame) -> list[Array]:
    (source,) = op.operands
    wanted = diag.labels(op.parent.operation.results[0])
    return [align(frame[source], diag.labels(source), wanted)]


_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "and": np.bitwise_and,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "or": np.bitwise_or,
}


def _empty_result(kind: str, type_: ir.Type) -> Any:
    """What a reduction of nothing gives, for the kinds where numpy does not know it."""
    dtype = numpy_dtype(type_)
    if dtype == np.float64:
        return {"max": -np.inf, "min": np.inf}.get(kind)
    if dtype == np.bool_:
        return {"max": False, "min": True}.get(kind)
    half = 2 ** (min(getattr(type_, "width", 64), 64) - 1)
    return {"max": -half, "min": half - 1, "and": -1}.get(kind)


@rule("diag.reduce")
def _reduce(op: ir.Operation, frame: Frame) -> list[Array]:
    source, result = op.operands[0], op.results[0]
    axes, over = diag.labels(source), diag.strings(op.attributes["over"])
    kind, type_ = op.attributes["kind"].value, diag.element_type(source)
    positions = tuple(axes.index(label) for label in over)
    empty = _empty_result(kind, type_)
    options: dict[str, Any] = {} if empty is None else {"initial": empty}
    reduced = _REDUCTIONS[kind].reduce(
        frame[source], axis=positions, dtype=numpy_dtype(type_), **options
    )
    rest = [label for label in axes if label not in over]
    aligned = align(np.asarray(reduced), rest, diag.labels(result))
    return [_rounded(aligned, result.type, frame)]


@rule(*diag.NORMALIZER_OPS)
def _normalize(op: ir.Operation, frame: Frame) -> list[Array]:
    source, result = op.operands[0], op.results[0]
    axes = diag.labels(source)
    x = frame[source]
    keep = np.ones(x.shape, dtype=np.bool_)
    mask = diag.mask_of(op)
    if mask is not None:
        keep = np.broadcast_to(align(frame[mask], diag.labels(mask), axes), x.shape)
    along = tuple(axes.index(label) for label in diag.strings(op.attributes["along"]))
    eps, place = _value(op, "eps", 0.0), _value(op, "eps_place", None)
    kind, noise = op.attributes["kind"].value, frame.options.noise
    seen = None if noise is None else noise.operand(op, 0, x)
    parameters = [align(frame[p], diag.labels(p), axes) for p in diag.parameters_of(op)]
    y = normalizer_meaning.normalize(
        kind, x, along, keep=keep, eps=eps, eps_place=place, seen=seen, parameters=parameters
    )
    return [_rounded(align(y, axes, diag.labels(result)), result.type, frame)]


def _value(op: ir.Operation, name: str, default: Any) -> Any:
    return op.attributes[name].value if name in op.attributes else default


@rule("diag.relabel")
def _relabel(op: ir.Operation, frame: Frame) -> list[Array]:
    old, new = (diag.strings(op.attributes[name]) for name in ("from", "to"))
    names = dict(zip(old, new, strict=True))
    axes = [names.get(label, label) for label in diag.labels(op.operands[0])]
    return [align(frame[op.operands[0]], axes, diag.labels(op.results[0]))]


@rule("diag.reindex")
def _reindex(op: ir.Operation, frame: Frame) -> list[Array]:
    map_ = op.attributes["map"].value
    source = frame[op.operands[0]]
    shape = [frame.size(label, static) for label, static in diag.dims(op.results[0]).items()]
    if 0 in shape:
        return [np.empty(shape, dtype=source.dtype)]
    positions = np.indices(shape, sparse=True) if shape else ()
    where = [np.asarray(diag.evaluate_affine(expr, positions)) for expr in map_.results]
    for label, index, size in zip(diag.labels(op.operands[0]), where, source.shape, strict=True):
        if index.min() < 0 or index.max() >= size:
            raise ValueError(
                f'positions {index.min()}..{index.max()} leave axis "{label}" of size {size}'
            )
    return [np.broadcast_to(source[tuple(where)], shape)]


@rule("diag.index")
def _index(op: ir.Operation, frame: Frame) -> list[Array]:
    """The whole axis, also inside a stream along it."""
    ((label, static),) = diag.dims(op.results[0]).items()
    size = static if static != diag.DYNAMIC else frame.sizes.get(label)
    if size is None:
        raise ValueError(f'nothing says how long axis "{label}" is')
    return [np.arange(size)]


@rule("diag.constant")
def _constant(op: ir.Operation, frame: Frame) -> list[Array]:
    return [constant_elements(op)]


def constant_elements(op: ir.Operation) -> Array:
    """The elements of a `diag.constant`, as float64, int64 or bool."""
    attr = op.attributes["value"]
    dtype = numpy_dtype(diag.element_type(op.results[0]))
    shape = list(diag.dims(op.results[0]).values())
    if attr.is_splat:
        value = attr.get_splat_value()
        return np.full(shape, value.value, dtype=dtype)
    if str(diag.element_type(op.results[0])) == "bf16":
        return _bf16_elements(str(attr)).reshape(shape)
    return np.array(attr).astype(dtype)


_NUMBER = re.compile(r"0x[0-9A-Fa-f]+|[-+]?\d[\d.]*(?:[eE][-+]?\d+)?")


def _bf16_elements(text: str) -> Array:
    """Elements of a dense bf16 attribute from its text, for the bindings cannot give them."""
    body = text.rsplit(" : ", 1)[0]
    if '"' in body:
        bits = np.frombuffer(bytes.fromhex(body.split('"')[1][2:]), dtype="<u2")
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return np.array([_bf16_number(token) for token in _NUMBER.findall(body)])


def _bf16_number(token: str) -> float:
    if not token.startswith("0x"):
        return float(token)
    return float(np.array([int(token, 16) << 16], dtype=np.uint32).view(np.float32)[0])


@rule("diag.concat")
def _concat(op: ir.Operation, frame: Frame) -> list[Array]:
    to = op.attributes["to"].value
    wanted = diag.labels(op.results[0])
    parts = []
    for operand, axis in zip(op.operands, diag.strings(op.attributes["axes"]), strict=True):
        axes = [to if label == axis else label for label in diag.labels(operand)]
        parts.append(align(frame[operand], axes, wanted))
    return [np.concatenate(parts, axis=wanted.index(to))]


@rule("diag.pad")
def _pad(op: ir.Operation, frame: Frame) -> list[Array]:
    axis, to = op.attributes["axis"].value, op.attributes["to"].value
    axes = [to if label == axis else label for label in diag.labels(op.operands[0])]
    wanted = diag.labels(op.results[0])
    widths: Mapping[str, tuple[int, int]] = {
        to: (op.attributes["low"].value, op.attributes["high"].value)
    }
    aligned = align(frame[op.operands[0]], axes, wanted)
    width = [widths.get(label, (0, 0)) for label in wanted]
    return [np.pad(aligned, width, constant_values=op.attributes["value"].value)]
