"""The state of a random diagram while it grows: axes with sizes, wires with bounds, inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from random import Random

from diagc.dialects import diag
from diagc.mlir import ir

__all__ = ["Argument", "Axis", "Canvas", "Wire", "sizes_for"]

LARGEST_WIRE = 2**15
LARGEST_CONTRACTION = 2**21

LENGTHS = (0, 1, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 48, 64, 65, 100)
BATCHES = (1, 2, 3)

# role of an axis -> (label stems, sizes that it may have, chance that its size is dynamic)
_ROLES: Mapping[str, tuple[str, tuple[int, ...], float]] = {
    "batch": ("bhr", BATCHES, 0.5),
    "long": ("qxyt", LENGTHS, 0.6),
    "feature": ("defg", (1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 32), 0.04),
}


def sizes_for(label: str) -> tuple[int, ...]:
    """The sizes that an axis of this label may have."""
    return next(sizes for stems, sizes, _ in _ROLES.values() if label[0] in stems)


@dataclass(frozen=True)
class Axis:
    """An axis of a diagram: its size at run time, and whether the IR knows it."""

    label: str
    size: int
    dynamic: bool

    @property
    def static(self) -> int:
        """The size in types."""
        return diag.DYNAMIC if self.dynamic else self.size


@dataclass(frozen=True)
class Wire:
    """A wire and a bound of the absolute values on it; `exact` when no rounding made it."""

    value: ir.Value
    bound: float
    exact: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the axes, in memory order."""
        return diag.labels(self.value)

    @property
    def element(self) -> str:
        """The element type as text."""
        return str(diag.element_type(self.value))


@dataclass(frozen=True)
class Argument:
    """An input: labels of its axes in memory order, and its element type; i1 is a mask."""

    labels: tuple[str, ...]
    element: str


@dataclass
class Canvas:
    """A growing diagram; ops are emitted at the ambient insertion point, the end of `block`.

    With `dynamic_lengths`, all axes but features have sizes that only the inputs tell.
    """

    rng: Random
    block: ir.Block
    dynamic_lengths: bool = False
    axes: dict[str, Axis] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    arguments: list[Argument] = field(default_factory=list)

    # ---- axes ---------------------------------------------------------------------------------

    def axis(self, role: str, size: int | None = None, dynamic: bool | None = None) -> str:
        """Make an axis with a fresh label; gives the label."""
        stems, sizes, chance = _ROLES[role]
        size = self.rng.choice(sizes) if size is None else size
        if dynamic is None:
            always = self.dynamic_lengths and role != "feature"
            dynamic = always or self.rng.random() < chance
        label = self.rng.choice(stems)
        while label in self.axes:
            label = f"{label[0]}{self.rng.randrange(100)}"
        self.axes[label] = Axis(label, size, dynamic)
        return label

    def like(self, label: str) -> str:
        """Make an axis of the same size under a fresh label."""
        axis = self.axes[label]
        return self.axis("long", axis.size, axis.dynamic)

    def size(self, labels: Sequence[str]) -> int:
        """Number of positions at run time."""
        return prod(self.axes[label].size for label in labels)

    def dims(self, labels: Sequence[str]) -> dict[str, int]:
        """Labelled sizes as types have them."""
        return {label: self.axes[label].static for label in labels}

    def fits(self, *label_groups: Sequence[str]) -> bool:
        """Whether a wire over all these labels is small and has at most four axes."""
        labels = set().union(*label_groups)
        return len(labels) <= 4 and self.size(list(labels)) <= LARGEST_WIRE

    # ---- wires --------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def shuffled(self, labels: Sequence[str]) -> list[str]:
        """The labels in the given order, or, half the time, in any."""
        order = list(labels)
        if self.chance(0.5):
            self.rng.shuffle(order)
        return order

    def add(self, value: ir.Value, bound: float, exact: bool = False) -> Wire:
        """Enter a wire that later ops may use."""
        wire = Wire(value, bound, exact)
        self.wires.append(wire)
        return wire

    def input(self, labels: Sequence[str], element: ir.Type) -> Wire:
        """A new argument of the function."""
        order = self.shuffled(labels)
        self.arguments.append(Argument(tuple(order), str(element)))
        type_ = diag.wire(self.dims(order), element)
        value = self.block.add_argument(type_, ir.Location.current)
        return self.add(value, 3.0, exact=True)

    def floats(self, accept: Callable[[Wire], bool] = lambda wire: True) -> list[Wire]:
        """Float wires that pass the test, older first."""
        return [w for w in self.wires if diag.is_float(diag.element_type(w.value)) and accept(w)]

    def pick(self, accept: Callable[[Wire], bool] = lambda wire: True) -> Wire | None:
        """A float wire, more often a recent one; None when there is none."""
        found = self.floats(accept)
        if not found:
            return None
        return found[-1] if self.chance(0.6) else self.rng.choice(found)

    def position(self, label: str) -> ir.Value:
        """A wire of positions along an axis."""
        return diag.index(label, self.axes[label].static)
