"""Give every axis of the graph a label; where one value must be read under another, a relabel.

Linked axes want one label. They are joined greedily in program order; a join is refused when one op
would then have two of its axes under one label, as the score product of self attention does with
the rows of x. The op that reads the value under another label gets a `diag.relabel` (emit.py).
"""

from collections.abc import Iterable, Sequence

from diagc.frontend.torch.axes import Axis
from diagc.frontend.torch.graph import GraphOp

__all__ = ["assign_labels"]

# letters to go on with when a name is taken: rows, features, heads
_SERIES = ("nmlpqrs", "defcijk", "bauw", "hg")
_SPARE = "xyzuvwstijklpqraoe"


def assign_labels(ops: Sequence[GraphOp]) -> dict[int, str]:
    """Labels by `id` of unsplit axis, distinct within each op."""
    classes = _Classes()
    for op in ops:
        for axes in op.scopes():
            classes.enter(axes)
    for op in ops:
        for use in op.uses:
            for outer, local in use.leaf_pairs():
                classes.join(outer, local)
    return classes.labels()


class _Classes:
    """Disjoint sets of axes that carry one label, each with the ops (scopes) that it occurs in."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._scopes: dict[int, set[int]] = {}
        self._axes: dict[int, Axis] = {}
        self._count = 0

    def enter(self, axes: Iterable[Axis]) -> None:
        """Add a scope: axes that must keep distinct labels."""
        self._count += 1
        for axis in axes:
            self._axes[id(axis)] = axis
            self._parent.setdefault(id(axis), id(axis))
            self._scopes.setdefault(id(axis), set()).add(self._count)

    def _find(self, key: int) -> int:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, left: Axis, right: Axis) -> None:
        """Join the classes of two axes unless an op has axes of both."""
        first, second = self._find(id(left)), self._find(id(right))
        if first == second or not self._scopes[first].isdisjoint(self._scopes[second]):
            return
        if len(self._scopes[first]) < len(self._scopes[second]):
            first, second = second, first
        self._parent[second] = first
        self._scopes[first] |= self._scopes.pop(second)

    def labels(self) -> dict[int, str]:
        """Names for the classes, in order of appearance."""
        hints: dict[int, str] = {}
        for key, axis in self._axes.items():
            root = self._find(key)
            hints[root] = hints.get(root) or axis.hint
        taken: set[str] = set()
        names = {root: _fresh(hint, taken) for root, hint in hints.items()}
        return {key: names[self._find(key)] for key in self._axes}


def _fresh(hint: str, taken: set[str]) -> str:
    """The hint, or a letter of its series, or the hint with a number; or any spare letter."""
    series = next((s for s in _SERIES if hint and hint in s), hint or _SPARE)
    candidates = [hint] if hint else []
    candidates += list(series)
    base = hint or "x"
    numbered = (f"{base}{i}" for i in range(1, len(taken) + 2))
    name = next(c for c in [*candidates, *numbered] if c not in taken)
    taken.add(name)
    return name
