"""Atomic axes: what dims of tensors are made of, how they split, and which are the same.

A dim of a tensor is a list of atomic axes, outermost first (none for a dim of size 1). A view only
groups axes anew, and splits an axis where a border falls inside it. Axes have two relations:

- *merged*: one axis, known by two names inside one op (the operands of an addition);
- *linked*: the same positions seen from two ops, a result and its use. Linked axes split together,
  but they may carry different labels: the labelling gives them one label where it can, and puts a
  `diag.relabel` between them where it cannot.

So the heads that a view splits off deep inside a model reach the weight matrices as named axes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from diagc.frontend.torch.sizes import Size, divide, equal, is_one

__all__ = ["Axis", "AxisSpace", "CannotAlign", "leaves"]


class CannotAlign(Exception):
    """Two lists of axes have no common refinement: a reshape across their borders."""


@dataclass(eq=False)
class Axis:
    """One atomic axis until it is split into `parts` or merged into `parent`."""

    size: Size
    hint: str = ""
    parent: "Axis | None" = None
    parts: "tuple[Axis, Axis] | None" = None
    links: "list[Axis]" = field(default_factory=list)

    @property
    def root(self) -> "Axis":
        """The axis that this one was merged into, or itself."""
        axis = self
        while axis.parent is not None:
            axis = axis.parent
        if axis is not self:
            self.parent = axis
        return axis

    def leaves(self) -> "Iterator[Axis]":
        """The unsplit axes that this one consists of now, outermost first."""
        root = self.root
        if root.parts is None:
            yield root
            return
        for part in root.parts:
            yield from part.leaves()

    def __repr__(self) -> str:
        """Show sizes, for debugging."""
        return "(" + " ".join(f"{a.hint}{a.size}" for a in self.leaves()) + ")"


def leaves(axes: Iterable[Axis]) -> list[Axis]:
    """The unsplit axes of a list of axes; those of size 1 are left out."""
    return [leaf for axis in axes for leaf in axis.leaves() if not is_one(leaf.size)]


@dataclass
class AxisSpace:
    """Makes and relates the axes of one program.

    Args:
        guards: pairs of sizes that an op demands to be equal and that are not provably so.
    """

    guards: list[tuple[Size, Size]] = field(default_factory=list)

    def make(self, size: Size, hint: str = "") -> list[Axis]:
        """A dim of a new axis; an empty dim for size 1."""
        return [] if is_one(size) else [Axis(size, hint)]

    def twin(self, axis: Axis) -> Axis:
        """A new axis that is linked to an unsplit one."""
        new = Axis(axis.size, axis.hint)
        self.link(axis, new)
        return new

    def link(self, left: Axis, right: Axis) -> None:
        """State that two unsplit axes are the same positions under two names."""
        first, second = left.root, right.root
        if first is second:
            return
        first.links.append(second)
        second.links.append(first)

    def merge(self, left: Axis, right: Axis) -> None:
        """Make two unsplit axes of one op one axis."""
        first, second = left.root, right.root
        if first is second:
            return
        if not equal(first.size, second.size):
            self.guards.append((first.size, second.size))
        if isinstance(second.size, int):
            first.size = second.size
        first.hint = first.hint or second.hint
        first.links.extend(second.links)
        second.parent = first

    def split(self, axis: Axis, outer: Size, inner: Size, hints: tuple[str, str]) -> None:
        """Split an unsplit axis and all axes that are linked to it, directly or not."""
        members = _component(axis.root)
        for member in members:
            member.parts = (Axis(outer, hints[0]), Axis(inner, hints[1]))
        for member in members:
            self._link_parts(member)

    def _link_parts(self, member: Axis) -> None:
        assert member.parts is not None
        for other in {id(a.root): a.root for a in member.links}.values():
            if other is member or other.parts is None:
                continue
            for mine, theirs in zip(member.parts, other.parts, strict=True):
                mine.links.append(theirs)  # the other member appends the way back

    def refine(self, left: Sequence[Axis], right: Sequence[Axis], *, assume: bool) -> None:
        """Split both lists, row major, until their unsplit axes have pairwise equal sizes.

        With `assume`, a symbolic size counts as equal to the one it meets: the op demands it.

        Raises:
            CannotAlign: sizes do not divide, or the totals differ.
        """
        while not self._refine_once(leaves(left), leaves(right), assume):
            pass

    def _refine_once(self, left: list[Axis], right: list[Axis], assume: bool) -> bool:
        """Split the first pair that differs; True when there is none."""
        for a, b in zip(left, right, strict=False):
            if a is b or equal(a.size, b.size) or (assume and _assumed_equal(a.size, b.size)):
                continue
            inner = divide(a.size, b.size)
            if inner is not None:
                self.split(a, b.size, inner, _split_hints(a, b))
                return False
            inner = divide(b.size, a.size)
            if inner is not None:
                self.split(b, a.size, inner, _split_hints(b, a))
                return False
            raise CannotAlign(f"axes of sizes {_sizes(left)} do not refine {_sizes(right)}")
        if len(left) != len(right):
            raise CannotAlign(f"axes of sizes {_sizes(left)} do not refine {_sizes(right)}")
        return True

    def align(self, left: Sequence[Axis], right: Sequence[Axis]) -> None:
        """Refine two lists of axes of one op, and merge them pairwise."""
        self.refine(left, right, assume=True)
        for a, b in zip(leaves(left), leaves(right), strict=True):
            self.merge(a, b)

    def regroup(self, axes: Sequence[Axis], target: Sequence[Axis]) -> list[list[Axis]]:
        """Split `axes` so that they fall into groups of the sizes of `target`."""
        self.refine(axes, target, assume=False)
        rest = iter(leaves(axes))
        return [[next(rest) for _ in leaves([t])] for t in target]


def _split_hints(whole: Axis, outer: Axis) -> tuple[str, str]:
    """Names of the parts: the target's name for the outer one, the old name for the inner one."""
    return (outer.hint if outer.hint != whole.hint else "", whole.hint)


def _component(root: Axis) -> list[Axis]:
    """All axes that are linked to `root`, directly or not."""
    found, waiting = {id(root): root}, [root]
    while waiting:
        for other in waiting.pop().links:
            other = other.root
            if id(other) not in found:
                found[id(other)] = other
                waiting.append(other)
    return list(found.values())


def _assumed_equal(left: Size, right: Size) -> bool:
    """A single symbol against a symbol or a number: the op itself demands that they are equal."""
    symbolic = [s for s in (left, right) if not isinstance(s, int)]
    return bool(symbolic) and all(s.is_Symbol for s in symbolic)


def _sizes(axes: Sequence[Axis]) -> str:
    return "x".join(str(a.size) for a in axes)
