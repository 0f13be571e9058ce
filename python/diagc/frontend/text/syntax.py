"""The syntax tree of `.diag` text: what was written where, nothing resolved yet."""

from dataclasses import dataclass, field

__all__ = [
    "Assign",
    "AxisDecl",
    "Binary",
    "Block",
    "Call",
    "Clauses",
    "Contract",
    "Diagram",
    "Expr",
    "File",
    "Index",
    "Name",
    "Number",
    "Parameter",
    "Return",
    "Table",
    "Unary",
    "WireType",
    "Word",
]


@dataclass(frozen=True)
class Word:
    """A name with its place."""

    text: str
    offset: int


@dataclass(frozen=True)
class Node:
    """Base of all expressions; `depth` bounds the recursion of everything that walks them."""

    offset: int
    depth: int = field(default=1, kw_only=True)


@dataclass(frozen=True)
class Number(Node):
    """A number or a truth value."""

    value: bool | int | float


@dataclass(frozen=True)
class Name(Node):
    """A wire, or the positions along an axis."""

    text: str


@dataclass(frozen=True)
class Unary(Node):
    """`-x` or `not x`."""

    op: str
    operand: "Expr"


@dataclass(frozen=True)
class Binary(Node):
    """Arithmetic, comparison or logic of two operands."""

    op: str
    lhs: "Expr"
    rhs: "Expr"


@dataclass(frozen=True)
class Contract(Node):
    """`lhs . rhs over d acc f64`."""

    lhs: "Expr"
    rhs: "Expr"
    over: tuple[Word, ...]
    acc: Word | None


@dataclass(frozen=True)
class Index(Node):
    """`base[n -> m]` (`renames`) or `base[n = 2 * m]` (`positions`)."""

    base: "Expr"
    renames: tuple[tuple[Word, Word], ...]
    positions: tuple[tuple[Word, "Expr"], ...]


@dataclass(frozen=True)
class Clauses:
    """What follows a call; `given` holds the place of each clause that was written."""

    given: dict[str, int]
    over: tuple[Word, ...] = ()
    along: tuple[Word, ...] = ()
    where: "Expr | None" = None
    eps: float | None = None
    eps_place: str | None = None
    to: Word | None = None


@dataclass(frozen=True)
class Call(Node):
    """A function, a cast, a reduction, a normaliser, `concat` or `pad`, with its clauses."""

    function: str
    args: tuple["Expr", ...]
    clauses: Clauses


@dataclass(frozen=True)
class Table(Node):
    """Nested lists of literals, `[[1, 2], [3, 4]]`."""

    rows: tuple["Expr", ...]


@dataclass(frozen=True)
class Block(Node):
    """`map { t = a + b; t * t }`: an elementwise expression whose parts have names."""

    parts: tuple[tuple[Word, "Expr"], ...]
    result: "Expr"


Expr = Number | Name | Unary | Binary | Contract | Index | Call | Table | Block


@dataclass(frozen=True)
class WireType:
    """`b n (h d) bf16`: groups of labels as a user's tensor has them, element type or None."""

    offset: int
    groups: tuple[tuple[Word, ...], ...]
    dtype: Word | None

    @property
    def labels(self) -> tuple[Word, ...]:
        """All labels, in memory order."""
        return tuple(word for group in self.groups for word in group)


@dataclass(frozen=True)
class AxisDecl:
    """One declared axis; `size` None is a run-time size."""

    name: Word
    size: int | None


@dataclass(frozen=True)
class Parameter:
    """An input wire of a diagram."""

    name: Word
    type: WireType


@dataclass(frozen=True)
class Assign:
    """`name: type = value`."""

    name: Word
    type: WireType | None
    value: Expr


@dataclass(frozen=True)
class Return:
    """`return a, b`."""

    offset: int
    values: tuple[Expr, ...]


@dataclass(frozen=True)
class Diagram:
    """A diagram with its body."""

    name: Word
    parameters: tuple[Parameter, ...]
    results: tuple[WireType, ...] | None
    body: tuple[Assign, ...]
    outputs: Return


@dataclass(frozen=True)
class File:
    """Axis declarations and diagrams, in order."""

    items: tuple[AxisDecl | Diagram, ...]
