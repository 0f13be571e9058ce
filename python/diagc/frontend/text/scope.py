"""What names mean while a diagram is lowered: axes, wires, literals; and its error messages."""

import difflib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from diagc.dialects import diag
from diagc.errors import DiagSyntaxError, SourceLocation, VerificationError
from diagc.frontend.scalar_types import ELEMENT_TYPES, element_type
from diagc.frontend.scalars import Scalar
from diagc.frontend.text.source import Source
from diagc.frontend.text.syntax import Expr, WireType, Word
from diagc.mlir import ir

__all__ = ["Binding", "Part", "Scope", "Want", "closest"]


Binding: TypeAlias = "ir.Value | Scalar | Part"
"""A wire, a literal, or a part of a map."""


@dataclass
class Part:
    """A named part of a map, lowered when it is first used: a name does not change the order.

    Args:
        expr: what the name stands for.
        visible: what names mean in it: those that were defined before.
        tree: the part once it is lowered.
    """

    expr: Expr
    visible: dict[str, Binding]
    tree: Scalar | None = None


def closest(name: str, known: Collection[str]) -> str | None:
    """Give a did-you-mean for `name`, or None."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{matches[0]}'?" if matches else None


@dataclass(frozen=True)
class Want:
    """What the annotation of an assignment asks for: axes in memory order, element type."""

    dims: dict[str, int]
    dtype: ir.Type | None


class Scope:
    """Names of one diagram: declared axes with sizes, and what has been assigned so far."""

    def __init__(self, source: Source, axes: dict[str, int]) -> None:
        """Start with the declared axes and no wires."""
        self.source = source
        self.axes = axes
        self.bindings: dict[str, Binding] = {}
        self._positions: dict[str, ir.Value] = {}

    def define(self, name: Word, binding: Binding) -> None:
        """Bind a name.

        Raises:
            DiagSyntaxError: the name is taken; each name means one thing in a diagram.
        """
        if name.text in self.bindings or name.text in self.axes:
            kind = "an axis" if name.text in self.axes else "assigned already"
            raise self.source.error(
                DiagSyntaxError,
                name.offset,
                f"'{name.text}' is {kind}",
                remedy="choose another name, each name means one thing in a diagram",
            )
        self.bindings[name.text] = binding

    def binding(self, name: Word) -> Binding:
        """Give what a name in an expression means; an axis means its positions.

        Raises:
            DiagSyntaxError: nothing has that name.
        """
        if name.text in self.bindings:
            return self.bindings[name.text]
        if name.text in self.axes:
            return self._index(name)
        raise self._unknown("name", name, [*self.bindings, *self.axes])

    def _index(self, axis: Word) -> ir.Value:
        """Give the one `diag.index` of an axis."""
        if axis.text not in self._positions:
            loc = self.source.location(axis.offset, f"{axis.text}_index")
            self._positions[axis.text] = diag.index(axis.text, self.axes[axis.text], loc=loc)
        return self._positions[axis.text]

    def label(self, word: Word) -> str:
        """Check that an axis is declared.

        Raises:
            DiagSyntaxError: it is not.
        """
        if word.text not in self.axes:
            raise self._unknown("axis", word, list(self.axes))
        return word.text

    def labels(self, words: Sequence[Word]) -> list[str]:
        """Check a list of axes: all declared, none twice."""
        names: list[str] = []
        for word in words:
            if self.label(word) in names:
                raise self.source.error(
                    VerificationError, word.offset, f"axis '{word.text}' stands twice"
                )
            names.append(word.text)
        return names

    def dims(self, words: Sequence[Word]) -> dict[str, int]:
        """Give the labelled sizes of a list of axes."""
        return {label: self.axes[label] for label in self.labels(words)}

    def wire_type(self, type_: WireType) -> ir.RankedTensorType:
        """Give the type of a parameter; f32 where no element type stands."""
        element = element_type(type_.dtype.text) if type_.dtype else ir.F32Type.get()
        return diag.wire(self.dims(type_.labels), element)

    def has(self, value: ir.Value, words: Sequence[Word], action: str, where: str) -> list[str]:
        """Check that a wire carries axes.

        Raises:
            VerificationError: `{action} axis "x" is missing in the {where}`, at the axis.
        """
        for word, label in zip(words, self.labels(words), strict=True):
            if label not in diag.labels(value):
                raise self.source.error(
                    VerificationError,
                    word.offset,
                    f'{action} axis "{label}" is missing in the {where}',
                    expected=f"one of {' '.join(diag.labels(value)) or 'no axes at all'}",
                    remedy=closest(label, diag.labels(value)),
                )
        return [word.text for word in words]

    def new_axis(self, word: Word, size: int) -> str:
        """Check that an axis that an operation makes is declared with the size it gets.

        Raises:
            VerificationError: it is declared with another size.
        """
        declared = self.axes[self.label(word)]
        if declared != size:
            raise self.source.error(
                VerificationError,
                word.offset,
                f'axis "{word.text}" is declared with another size',
                expected=_size_text(word.text, size),
                found=_size_text(word.text, declared),
                remedy="an axis without a size has its size at run time",
            )
        return word.text

    def dtype(self, word: Word) -> ir.Type:
        """Give an element type.

        Raises:
            DiagSyntaxError: there is no such type.
        """
        if word.text not in ELEMENT_TYPES:
            raise self._unknown("element type", word, ELEMENT_TYPES)
        return element_type(word.text)

    def _unknown(self, what: str, word: Word, known: Collection[str]) -> DiagSyntaxError:
        listing = ", ".join(known)
        remedy = closest(word.text, known)
        if what == "axis" and remedy is None:
            remedy = f"declare it with 'axis {word.text}'"
        return self.source.error(
            DiagSyntaxError,
            word.offset,
            f"unknown {what} '{word.text}'",
            expected=f"one of {listing}" if 0 < len(listing) < 200 else None,
            remedy=remedy,
        )

    @contextmanager
    def seeing(self, bindings: dict[str, Binding]) -> Iterator[None]:
        """Let names mean something else inside the block."""
        before, self.bindings = self.bindings, bindings
        try:
            yield
        finally:
            self.bindings = before

    @contextmanager
    def checked(self, offset: int) -> Iterator[None]:
        """Turn broken rules of the dialect into errors that point into the text."""
        try:
            yield
        except diag.VerifyError as error:
            place = SourceLocation.of(error.loc) or self.source.place(offset)
            raise VerificationError(str(error), location=place, source=self.source.text) from None


def _size_text(label: str, size: int) -> str:
    return f"'axis {label}'" if size == diag.DYNAMIC else f"'axis {label} = {size}'"
