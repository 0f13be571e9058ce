"""Let products of bf16 rows with small f32 matrices be products of bf16: each number is two words.

Tensor cores multiply a bf16 row with a matrix of f32 as tf32, which is half as fast, and as two
numbers of tf32 each, which is half as fast again. A matrix that a kernel has just computed can
leave it as two matrices of bf16, whose sum has 16 bits of it.

Before (`%g` is the last state of a stream, in f32; what depends on `%t` is rounded to bf16):

    %t = "diag.contract"(%q, %g) {over = ["d"]}

After:

    %high = "diag.map"() ({ bf16(g) })
    %low  = "diag.map"() ({ bf16(g - f32(bf16(g))) })
    %t    = "diag.map"() ({ a + b })        // of q . high and q . low over d, in f32

The error is 2**-17 of each element, a 512th of that of the rounded result: as if keys and values
had been given with so many more digits. A sum of squares that cancels is guarded
(`reassociation_guard`): t^2 <= 8 sqrt(d) leaves an error of 2**-17 t^2 / 2 < 2**-11 of a norm for
d up to 128, below that of its rounding.

Requires: the option `split-words`, which targets give whose products of bf16 are that much faster.
Run on functions, once contractions are what they stay.

Declines: matrices that are arguments, products, or given for every chunk of a stream, as another
kernel would have to split them; f16, whose range is not that of f32; matrices that are larger than
the rows, or without an axis that both have (one task makes them); sums of less than 16 positions;
results that leave the function in another type than bf16, or are added to others, compared with
them, or exponents before: there the error may grow to more than the rounding's.
"""

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar

from diagc.algebra.dataflow import defining_op, reduced_axes
from diagc.algebra.expressions import symbol
from diagc.algebra.graph import Graph
from diagc.algebra.maps import map_expr
from diagc.cost import elements
from diagc.dialects import diag
from diagc.mlir import arith, ir, math_dialect
from diagc.passes.base import Pass
from diagc.passes.kernels.fusion_rules import is_small
from diagc.passes.replacing import replace_ops

__all__ = ["SplitWordsPass"]

_LEAST_DEPTH = 16
_ROUNDED = "bf16"
_SUMS = ("diag.contract", "diag.reduce", "diag.relabel", "diag.reindex")
_RELATIVE = {
    *("arith.constant", "arith.divf", "arith.extf", "arith.maximumf", "arith.mulf", "arith.negf"),
    *("arith.select", "arith.truncf", "diag.element", "diag.yield"),
    *("math.absf", "math.rsqrt", "math.sqrt"),
}
"""Scalar ops whose relative error is about that of what they are given."""


@dataclass(frozen=True)
class SplitWordsPass(Pass):
    """let products of bf16 with small f32 matrices be products of bf16, two words a number."""

    name: ClassVar[str] = "split-words"
    split_words: bool = False

    def run(self, op: ir.Operation) -> None:
        """Rewrite the contractions of the function's blocks; those in streams are not looked at."""
        if not self.split_words:
            return
        for block in op.regions[0].blocks:
            _split(block)


def _split(block: ir.Block) -> None:
    words: dict[ir.Value, list[ir.Value]] = {}
    while (op := _next(block)) is not None:
        _rewrite(block, op, words)


def _next(block: ir.Block) -> ir.Operation | None:
    """The first product that is left to split."""
    graph = Graph(block)
    return next((op for op in graph.ops if _is_split(graph, op)), None)


def _rewrite(block: ir.Block, op: ir.Operation, words: dict[ir.Value, list[ir.Value]]) -> None:
    """Sum the products with both words of the matrix, which all its products share."""
    (result,), (_rows, matrix) = op.results, _operands(op)
    over, order, f32 = reduced_axes(op), diag.labels(op.results[0]), ir.F32Type.get()

    def build() -> list[ir.Value]:
        product = partial(diag.contract, over=over, dtype=f32, order=order)
        pairs = [[word if x == matrix else x for x in op.operands] for word in words[matrix]]
        wires = {name: product(*pair) for name, pair in zip("ab", pairs, strict=True)}
        both = symbol("a") + symbol("b")
        return [map_expr(both, wires, f32, dtype=diag.element_type(result))]

    if matrix not in words:
        words[matrix] = _words(matrix)
    replace_ops(Graph(block), [op], {op}, [result], build)


def _words(matrix: ir.Value) -> list[ir.Value]:
    """The nearest bf16 of each element, and that of what is left; right behind the matrix."""
    source = defining_op(matrix)
    assert source is not None, "arguments are not split"
    bf16, f32 = ir.BF16Type.get(), ir.F32Type.get()

    def rest(x: ir.Value) -> ir.Value:
        near = arith.extf(f32, _nearest(x))
        # nothing is left of infinity, nor of numbers that bf16 rounds to it
        size, zero = math_dialect.absf(near), arith.constant(f32, 0.0)
        known = arith.cmpf(arith.CmpFPredicate.OLT, size, arith.constant(f32, inf))
        return arith.truncf(bf16, arith.select(known, arith.subf(x, near), zero))

    with ir.InsertionPoint.after(source), source.location:
        return [diag.map_([matrix], make, dtype=bf16) for make in (_nearest, rest)]


def _nearest(x: ir.Value) -> ir.Value:
    """The nearest bf16, by way of its bits: targets keep all digits of numbers in registers."""
    bits = arith.bitcast(ir.IntegerType.get_signless(16), arith.truncf(ir.BF16Type.get(), x))
    return arith.bitcast(ir.BF16Type.get(), bits)


def _is_split(graph: Graph, op: ir.Operation) -> bool:
    """Whether an op is such a product, and all that depends on it is rounded."""
    if op.name != "diag.contract" or _matrix(op) is None or not is_small(op):
        return False
    rows, matrix = _operands(op)
    deep = elements({axis: diag.dims(matrix)[axis] for axis in reduced_axes(op)}) >= _LEAST_DEPTH
    long = elements(rows) >= elements(matrix)
    batched = set(diag.labels(rows)) & set(diag.labels(matrix)) - set(reduced_axes(op))
    return deep and long and bool(batched) and _is_final_state(matrix) and _is_rounded(graph, op)


def _is_final_state(matrix: ir.Value) -> bool:
    """Whether a stream gives a matrix once, at its end: its kernel can split it."""
    op = defining_op(matrix)
    if op is None or op.name != "diag.stream":
        return False
    return ir.StringAttr(op.attributes["axis"]).value not in diag.labels(matrix)


def _matrix(op: ir.Operation) -> ir.Value | None:
    """The operand of f32 of a product with bf16."""
    types = [str(diag.element_type(value)) for value in op.operands]
    return op.operands[types.index("f32")] if sorted(types) == ["bf16", "f32"] else None


def _operands(op: ir.Operation) -> tuple[ir.Value, ir.Value]:
    """The rows and the matrix."""
    matrix = _matrix(op)
    assert matrix is not None, "an operand is of f32"
    (rows,) = (value for value in op.operands if value != matrix)
    return rows, matrix


def _is_rounded(graph: Graph, op: ir.Operation) -> bool:
    """Whether a small relative error is rounded away before anything leaves the function."""
    stack, seen = [op], {op}
    while stack:
        values = stack.pop().results
        open_ends = [x for x in values if str(diag.element_type(x)) != _ROUNDED]
        users = {user for value in open_ends for user in graph.users(value)} - seen
        if not all(map(_keeps_error, users)):
            return False
        seen |= users
        stack += [user for user in users if not _is_guard(user)]
    return True


def _keeps_error(op: ir.Operation) -> bool:
    """Whether errors relative to what an op reads do not grow: nothing cancels, nothing leaves."""
    if op.name != "diag.map":
        return op.name in _SUMS
    body = [view.operation for view in op.regions[0].blocks[0].operations]
    relative = all(x.name in _RELATIVE or _is_compared_with_a_number(x) for x in body)
    return _is_guard(op) or (relative and diag.is_float(diag.element_type(op.results[0])))


def _is_compared_with_a_number(op: ir.Operation) -> bool:
    if op.name != "arith.cmpf":
        return False
    owners = (x.owner.operation for x in op.operands if not isinstance(x.owner, ir.Block))
    return any(owner.name == "arith.constant" for owner in owners)


def _is_guard(op: ir.Operation) -> bool:
    """Whether an op says which rows lost accuracy: a stream computes these once more."""
    uses = [use.owner.operation for result in op.results for use in result.uses]
    condition = all(str(diag.element_type(x)) == "i1" for x in op.results)
    return condition and any(
        user.name == "diag.stream" and op.results[0] in list(user.operands) for user in uses
    )
