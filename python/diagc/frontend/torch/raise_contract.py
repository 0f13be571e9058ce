"""Rules for products: matmul and its like, linear, einsum become `diag.contract`.

An op is described by one letter for each dim of each operand and of the result, as in einsum.
"""

import string
from collections.abc import Sequence

import torch

from diagc.frontend.torch.aten import Node, Ref, TensorType
from diagc.frontend.torch.axes import Axis, leaves
from diagc.frontend.torch.graph import AffinePosition, ReindexOp, Use, View
from diagc.frontend.torch.promotion import compute_type, number
from diagc.frontend.torch.raise_reduce import elementwise
from diagc.frontend.torch.raiser import Raiser
from diagc.frontend.torch.rules import NotRaised, rule
from diagc.frontend.torch.scalar import Expr
from diagc.frontend.torch.simplify import apply, cast

__all__ = ["multiply"]

_LETTERS = string.ascii_letters


def multiply(
    r: Raiser,
    left: View,
    right: View,
    letters: tuple[str, str, str],
    dtype: torch.dtype,
    suffix: str = "",
) -> View:
    """Contract two views; letters name the dims of both operands and of the result.

    Letters in one operand only that the result lacks are summed first. A dim of size 1 broadcasts.
    """
    first, second, result = letters
    left, first = _sum_lonely(r, left, first, second + result)
    right, second = _sum_lonely(r, right, second, first + result)
    left, right = _carry_summed(r, left, first, result), _carry_summed(r, right, second, result)
    (use_l, dims_l), (use_r, dims_r) = r.use(left), r.use(right)
    dims: dict[str, list[Axis]] = {}
    for letter, dim in [*zip(first, dims_l, strict=True), *zip(second, dims_r, strict=True)]:
        known = dims.get(letter)
        if known and dim:
            r.space.align(known, dim)
        dims[letter] = known or dim
    over = [a for c in dims if c not in result for a in leaves(dims[c])]
    return r.contract(use_l, use_r, over, [leaves(dims[c]) for c in result], dtype, suffix)


def _sum_lonely(r: Raiser, view: View, letters: str, others: str) -> tuple[View, str]:
    """Sum dims that occur in neither the other operand nor the result."""
    lonely = [i for i, c in enumerate(letters) if c not in others]
    if not lonely:
        return view, letters
    kept = "".join(c for i, c in enumerate(letters) if i not in lonely)
    total = r.reduce(r.cast(view, compute_type(view.dtype)), lonely, "add", suffix="sum")
    return r.cast(total, view.dtype), kept


def _carry_summed(r: Raiser, view: View, letters: str, result: str) -> View:
    """Summed axes must be in both values, not merely broadcast."""
    carried = {id(a) for a in view.value.leaves()}
    summed = [a for i, c in enumerate(letters) if c not in result for a in view.leaves(i)]
    return view if all(id(a) in carried for a in summed) else r.materialize(view)


def _operands(
    r: Raiser, views: Sequence[View], result: torch.dtype
) -> tuple[list[View], torch.dtype]:
    """Operands in the type they are multiplied in: autocast shows in the result type only."""
    if any(not v.dtype.is_floating_point for v in views) or not result.is_floating_point:
        raise NotRaised("a product of integers")
    narrow = result.itemsize < max(v.dtype.itemsize for v in views)
    return [r.cast(v, result) if narrow else v for v in views], result


def _summed_broadcast(left: View, right: View, letters: tuple[str, str, str]) -> bool:
    """Whether a summed dim has size 1 in one operand and not in the other."""
    first, second, result = letters
    for i, c in enumerate(first):
        if c in result or c not in second:
            continue
        if bool(left.leaves(i)) != bool(right.leaves(second.index(c))):
            return True
    return False


def _product(r: Raiser, node: Node, left: View, right: View, letters: tuple[str, str, str]) -> View:
    (left, right), dtype = _operands(r, (left, right), node.result.dtype)
    if _summed_broadcast(left, right, letters):
        raise NotRaised("a summed dim of size 1 against a larger one")
    return multiply(r, left, right, letters, dtype)


@rule("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "inner", "vdot")
def _matmul(r: Raiser, node: Node) -> View:
    left, right = (r.view(v) for v in list(node.args.values())[:2])
    ranks = len(left.dims), len(right.dims)
    if node.packet == "aten.inner" and min(ranks) > 1:
        raise NotRaised("inner of matrices")
    return _product(r, node, left, right, _matmul_letters(*ranks))


def _matmul_letters(left: int, right: int) -> tuple[str, str, str]:
    batch = _LETTERS[: max(left, right, 2) - 2]
    first = "z" if left == 1 else batch[len(batch) - (left - 2) :] + "yz"
    second = "z" if right == 1 else batch[len(batch) - (right - 2) :] + "zx"
    return first, second, batch + ("y" if left > 1 else "") + ("x" if right > 1 else "")


@rule("linear")
def _linear(r: Raiser, node: Node) -> View:
    view, weight = r.view(node.args["input"]), r.view(node.args["weight"])
    batch = _LETTERS[: len(view.dims) - 1]
    out = "x" if len(weight.dims) == 2 else ""
    letters = (batch + "z", out + "z", batch + out)
    return _with_bias(r, node, (view, weight), letters, node.get("bias"))


@rule("addmm", "baddbmm", "addbmm", "addmv")
def _addmm(r: Raiser, node: Node) -> View:
    first, second = list(node.args.values())[1:3]
    views = r.view(first), r.view(second)
    letters = {
        "aten.addmm": ("yz", "zx", "yx"),
        "aten.baddbmm": ("byz", "bzx", "byx"),
        "aten.addbmm": ("byz", "bzx", "yx"),
        "aten.addmv": ("yz", "z", "y"),
    }[node.packet]
    scales = node.args["alpha"], node.args["beta"]
    return _with_bias(r, node, views, letters, node.args["self"], *scales)


def _with_bias(
    r: Raiser,
    node: Node,
    views: tuple[View, View],
    letters: tuple[str, str, str],
    bias: Ref | None,
    alpha: float = 1,
    beta: float = 1,
) -> View:
    """`alpha` times the product plus `beta` times the bias, rounded to the result type once."""
    if bias is None:
        return _product(r, node, *views, letters)
    (left, right), dtype = _operands(r, views, node.result.dtype)
    if _summed_broadcast(left, right, letters):
        raise NotRaised("a summed dim of size 1 against a larger one")
    work = compute_type(dtype)
    product = multiply(r, left, right, letters, work)
    if beta == 0:
        return r.cast(_scaled(r, product, alpha), dtype)

    def build(x: Expr, b: Expr) -> Expr:
        x = x if alpha == 1 else apply("mul", x, number(alpha, work))
        b = cast(b, work)
        return apply("add", x, b if beta == 1 else apply("mul", b, number(beta, work)))

    return r.map([product, r.view(bias)], TensorType(node.result.shape, dtype), build, "bias")


def _scaled(r: Raiser, view: View, factor: float) -> View:
    if factor == 1:
        return view
    return elementwise(
        r, view, view.dtype, lambda x: apply("mul", x, number(factor, x.dtype)), "scale"
    )


# --- einsum ------------------------------------------------------------------------------------


@rule("einsum")
def _einsum(r: Raiser, node: Node) -> View:
    views = [r.view(ref) for ref in node.args["tensors"]]
    terms, result = _parse(node.args["equation"], [len(v.dims) for v in views])
    views, dtype = _operands(r, views, node.result.dtype)
    pairs = [_diagonals(r, view, term) for view, term in zip(views, terms, strict=True)]
    _name_axes(pairs)
    view, term = pairs[0]
    for i, (other, other_term) in enumerate(pairs[1:], start=2):
        later = set(result).union(*(t for _, t in pairs[i:]))
        kept = [c for c in dict.fromkeys(term + other_term) if c in later]
        ordered = result if i == len(pairs) else "".join(kept)
        letters = (term, other_term, ordered)
        if _summed_broadcast(view, other, letters):
            raise NotRaised("a summed dim of size 1 against a larger one")
        view, term = multiply(r, view, other, letters, dtype), ordered
    view, term = _sum_lonely(r, view, term, result)
    return view.with_dims([view.dims[term.index(c)] for c in result])


def _name_axes(pairs: Sequence[tuple[View, str]]) -> None:
    """The user's letters are good names for axes that have none."""
    for view, term in pairs:
        for i, letter in enumerate(term):
            for axis in view.leaves(i)[:1]:
                axis.hint = letter if letter.islower() else axis.hint


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of operands and result; `...` becomes letters that the equation does not use."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [c for c in reversed(_LETTERS) if c not in equation]
    spans = [rank - len(t.replace("...", "")) for rank, t in zip(ranks, terms, strict=True)]
    widest = max((s for s, t in zip(spans, terms, strict=True) if "..." in t), default=0)
    dots = "".join(spare[:widest])
    expanded = [
        t.replace("...", dots[widest - s :] if s else "") for s, t in zip(spans, terms, strict=True)
    ]
    if arrow:
        return expanded, result.replace("...", dots)
    joined = "".join(terms).replace("...", "")
    once = sorted(c for c in set(joined) if joined.count(c) == 1)
    return expanded, dots + "".join(once)


def _diagonals(r: Raiser, view: View, term: str) -> tuple[View, str]:
    """Repeated letters read the diagonal."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first, second = term.index(letter), term.rindex(letter)
            view = _diagonal(r, view, first, second)
            term = term[:second] + term[second + 1 :]
    return view, term


def _diagonal(r: Raiser, view: View, first: int, second: int) -> View:
    if not view.leaves(first) and not view.leaves(second):
        return view.with_dims([d for i, d in enumerate(view.dims) if i != second])
    view = r.materialize(view)
    r.space.refine(view.dims[first], view.dims[second], assume=True)
    rows, columns = view.leaves(first), view.leaves(second)
    local = {id(a): r.space.twin(a) for a in view.value.leaves()}
    partner = {id(c): local[id(row)] for row, c in zip(rows, columns, strict=True)}
    source = [
        ((local[id(a)],), AffinePosition(axis=partner.get(id(a), local[id(a)])))
        for a in view.value.leaves()
    ]
    dims = [[local[id(a)] for a in view.leaves(i)] for i in range(len(view.dims)) if i != second]
    pairs = tuple((a, local[id(a)]) for a in view.value.leaves())
    op = ReindexOp([Use(view.value, pairs)], source=tuple(source))
    axes = tuple(a for dim in dims for a in dim)
    return r.add_value(op, axes, dims, view.dtype, "diagonal")
