"""Scalar expressions: trees that are built with Python operators, typed once, emitted as one map.

Both front ends say elementwise mathematics with `Scalar` trees: the text by parsing, the builder by
calling a user's lambda on them. `elementwise.emit_map` types a tree and makes one `diag.map`.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from diagc.dialects import diag
from diagc.errors import UserError
from diagc.frontend.call_site import call_site
from diagc.mlir import ir

__all__ = ["Arithmetic", "Number", "Scalar", "leaf", "literal", "postorder"]

Number = bool | int | float


class _Node(Protocol):
    @property
    def args(self) -> Sequence[Any]:
        """The operands."""


N = TypeVar("N", bound=_Node)


class Arithmetic:
    """Python's operators, each handed to `apply` under the name of the language."""

    __hash__ = object.__hash__

    @abstractmethod
    def apply(self, name: str, *args: Any) -> Self:
        """Build the elementwise operation `name` on `args`."""

    def __add__(self, other: Any) -> Self:
        return self.apply("+", self, other)

    def __radd__(self, other: Any) -> Self:
        return self.apply("+", other, self)

    def __sub__(self, other: Any) -> Self:
        return self.apply("-", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self.apply("-", other, self)

    def __mul__(self, other: Any) -> Self:
        return self.apply("*", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self.apply("*", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self.apply("/", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self.apply("/", other, self)

    def __mod__(self, other: Any) -> Self:
        return self.apply("%", self, other)

    def __pow__(self, other: Any) -> Self:
        return self.apply("pow", self, other)

    def __neg__(self) -> Self:
        return self.apply("neg", self)

    def __abs__(self) -> Self:
        return self.apply("abs", self)

    def __lt__(self, other: Any) -> Self:
        return self.apply("<", self, other)

    def __le__(self, other: Any) -> Self:
        return self.apply("<=", self, other)

    def __gt__(self, other: Any) -> Self:
        return self.apply(">", self, other)

    def __ge__(self, other: Any) -> Self:
        return self.apply(">=", self, other)

    def eq(self, other: Any) -> Self:
        """Whether two numbers are equal; `==` stays Python's identity."""
        return self.apply("==", self, other)

    def ne(self, other: Any) -> Self:
        """Whether two numbers differ."""
        return self.apply("!=", self, other)

    def __and__(self, other: Any) -> Self:
        return self.apply("and", self, other)

    def __or__(self, other: Any) -> Self:
        return self.apply("or", self, other)

    def __invert__(self) -> Self:
        return self.apply("not", self)

    def __bool__(self) -> bool:
        raise UserError(
            "an elementwise condition has no single truth value",
            location=call_site(),
            remedy="use fn.where, & and |",
        )


@dataclass(frozen=True, eq=False)
class Scalar(Arithmetic):
    """One node of an elementwise expression; equal only to itself, so that sharing is seen.

    Args:
        name: an elementwise function of the language, or `leaf`, `literal`, `cast`.
        args: the operands.
        payload: the wire of a leaf, the number of a literal, the element type of a cast.
        loc: where it was written; None stands for the place of the whole map.
    """

    name: str
    args: tuple["Scalar", ...] = ()
    payload: Any = None
    loc: ir.Location | None = None

    def apply(self, name: str, *args: Any) -> "Scalar":
        """Build the tree of function `name`; numbers among `args` become literals."""
        from diagc.frontend.functions import build

        return build(name, [literal(arg) for arg in args])

    def cast(self, element: ir.Type) -> "Scalar":
        """Give this number as another element type."""
        return Scalar("cast", (self,), element, self.loc)


def leaf(wire: ir.Value, loc: ir.Location | None = None) -> Scalar:
    """Give the scalar of `wire` at the current position."""
    return Scalar("leaf", (), wire, loc)


def literal(value: Scalar | Number, loc: ir.Location | None = None) -> Scalar:
    """Give a number as a scalar; its type is that of what it meets, f32 alone.

    Raises:
        VerifyError: `value` is neither a number nor a scalar.
    """
    if isinstance(value, Scalar):
        return value
    if not isinstance(value, Number):
        found = type(value).__name__
        raise diag.VerifyError(f"expected a number or a scalar, found {found}", loc)
    return Scalar("literal", (), value, loc)


def postorder(root: N) -> Iterator[N]:
    """Give every node once, operands before users, left to right; no recursion, any depth."""
    seen: set[int] = set()
    stack: list[tuple[N, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))
