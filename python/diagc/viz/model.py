"""A diagram as it is drawn: arrays, which are bundles of axes, and operations on them.

Nothing here knows MLIR or a place on the page: `read.py` makes pictures, `layout.py` places them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Array", "Axis", "Kind", "Level", "Operation", "Picture"]


class Level(Enum):
    """Where an array lives; `PLAIN` before there are kernels that would say it."""

    PLAIN = "not decided yet"
    MEMORY = "main memory"
    CHIP = "on chip, inside a kernel"
    STATE = "state, on chip while a stream runs"


class Kind(Enum):
    """What an operation looks like."""

    INPUT = "input"  # where an array of the program begins
    OUTPUT = "output"
    CONSTANT = "constant"  # a literal, or positions along an axis
    STATE = "state"  # where a state enters a stream
    CARRY = "carry"  # where it goes round
    CONTRACT = "contract"
    MAP = "map"
    NORMALIZE = "normalize"
    REDUCE = "reduce"
    RELABEL = "relabel"
    REINDEX = "reindex"
    CONCAT = "concat"
    CALL = "call"  # of the host framework
    FRAME = "frame"  # a kernel or the loop of a stream, with a picture inside
    PORT = "port"  # where an array enters a frame, or a row that is continued
    TAG = "tag"  # where it breaks off, to go on elsewhere


@dataclass(frozen=True)
class Axis:
    """One wire: its label, its size (None at run time), and its decoration.

    `mark` is `g` for a grouped axis and `s` for a streamed one, whose `size` is then that of the
    group or chunk (None when no schedule says it).
    """

    label: str
    size: int | None = None
    mark: str = ""


@dataclass(eq=False)
class Array:
    """A bundle of wires."""

    name: str
    axes: tuple[Axis, ...]
    dtype: str = ""
    level: Level = Level.PLAIN

    @property
    def lanes(self) -> int:
        """Number of lines that are drawn; a number without axes takes a dotted one."""
        return max(1, len(self.axes))


@dataclass(eq=False)
class Operation:
    """One box, cup, pill or frame.

    Args:
        kind: what it looks like.
        inputs: arrays in the order in which they stand from top to bottom, if nothing is gained
            by another one.
        outputs: arrays that it makes.
        text: what is written in it; private characters stand for the letters of the inputs.
        title: the long form, shown when the mouse rests on it.
        over: for each input, the numbers of the axes that it acts on; the others only weave.
        pairs: which axis of the first input is which of the second: (first, second).
        sources: for each output and each of its axes, the input and axis that it continues.
        missing: for each input, labels over which it is broadcast.
        inner: the picture in a frame; its inputs and outputs are in the order of this one's.
    """

    kind: Kind
    inputs: list[Array] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    text: str = ""
    title: str = ""
    over: Sequence[Sequence[int]] = ()
    pairs: Sequence[tuple[int, int]] = ()
    sources: Sequence[Sequence[tuple[int, int] | None]] = ()
    missing: Sequence[Sequence[str]] = ()
    inner: "Picture | None" = None

    def acted(self, number: int) -> Sequence[int]:
        """The axes of an input that are acted on."""
        return self.over[number] if number < len(self.over) else ()


@dataclass(eq=False)
class Picture:
    """Operations in an order in which they can be computed."""

    inputs: list[Array] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    title: str = ""
