"""Laws in words: `z: sum of exp(a - m), corrected by exp(m - m')`.

Letters are given in order, never taken from the program, so that equal streams have equal laws.
"""

from collections.abc import Collection, Sequence

from diagc.algebra import laws
from diagc.algebra.dataflow import carries, defining_op
from diagc.algebra.expressions import CONSTANT, Expr, show, substitute, symbol
from diagc.algebra.scalars import read_map, readable
from diagc.algebra.summands import Summands, monoid_of, without_guards
from diagc.mlir import ir

__all__ = ["LawTexts"]

_KIND_WORDS = {"add": "sum", "mul": "product", "max": "maximum", "min": "minimum"}
_STATE_LETTERS = {"max": "m", "min": "l", "mul": "p", "or": "any", "and": "all"}
_ELEMENT_LETTERS = "abcdefgh"
_CAPTURED_LETTERS = "uvwxy"
_POSITION, _OTHER_POSITIONS = "i", "jkpqrs"


class LawTexts:
    """Texts about the states of one stream.

    Args:
        axis: the streamed axis.
        reductions: the reductions, one state each.
        body: what the stream computes; its maps are shown as formulas of what they read.
        summands: the terms that the laws are about.
    """

    def __init__(
        self,
        axis: str,
        reductions: Sequence[ir.Operation],
        body: Collection[ir.Operation],
        summands: Summands,
    ) -> None:
        self._axis = axis
        self._body = body
        self._summands = summands
        self._letters: dict[ir.Value, str] = {}
        self._states: dict[ir.Operation, str] = {}
        for op in reductions:
            self._states[op] = _numbered(self._state_letter(op), list(self._states.values()))
        self._results = list(reductions)

    def _state_letter(self, op: ir.Operation) -> str:
        """The letter: m for a maximum, o for a contraction, n for a count, z for any other sum."""
        if op.name == "diag.contract":
            return "o"
        producer = defining_op(op.operands[0])
        counts = producer is not None and producer in self._body and producer.name == "diag.map"
        if counts and self._term(op.operands[0]).op == CONSTANT:
            return "n"
        return _STATE_LETTERS.get(monoid_of(op), "z")

    def line(self, op: ir.Operation, kind: str) -> str:
        """What the state of `op` holds."""
        return f"{self._states[op]}: {_KIND_WORDS.get(kind, kind)} of {self.summand(op)}"

    def summand(self, op: ir.Operation) -> str:
        """What a reduction reduces."""
        first, *rest = [self._term(value) for value in op.operands]
        return show(readable(first * rest[0] if rest else first))

    def law(self, law: Expr) -> str:
        """A correction; what it reads of the new states is primed."""
        raws = {n: self._summands.raw(n) for n in list(self._summands.wires) if n[0] == "s"}
        old = {name: substitute(raw, self._result_names("")) for name, raw in raws.items()}
        new = {
            name + laws.NEW: substitute(raw, self._result_names("'")) for name, raw in raws.items()
        }
        captured = [(name, wire) for name, wire in self._summands.wires.items() if name[0] == "c"]
        letters = {name: self._letter(wire) for name, wire in captured}
        return show(readable(substitute(substitute(law, old | new), letters)))

    def statistic(self, name: str) -> str:
        """A statistic, over states."""
        return show(readable(substitute(self._summands.raw(name), self._result_names(""))))

    def result(self, name: str) -> str:
        """The letter of the state of result `name`."""
        return str(self._result_names("")[name].value)

    def _result_names(self, prime: str) -> dict[str, Expr]:
        names = (self._states[op] for op in self._results)
        return {f"r{number}": symbol(name + prime) for number, name in enumerate(names)}

    def _term(self, value: ir.Value) -> Expr:
        """A wire as a formula of elements, captured wires and states."""
        op = defining_op(value)
        if op is not None and op in self._states:
            return symbol(self._states[op])
        if op is None or op not in self._body or op.name != "diag.map":
            return self._letter(value)
        return without_guards(read_map(op, self._term))

    def _letter(self, value: ir.Value) -> Expr:
        if value not in self._letters:
            letters = self._alphabet(value)
            taken = [name for name in self._letters.values() if name[0] in letters]
            letter = letters[len(taken) % len(letters)]
            self._letters[value] = _numbered(letter, taken)
        return symbol(self._letters[value])

    def _alphabet(self, value: ir.Value) -> str:
        """`i` is the position along the streamed axis, `j` and what follows along others."""
        streamed = carries(value, self._axis)
        op = defining_op(value)
        if op is not None and op.name == "diag.index":
            return _POSITION if streamed else _OTHER_POSITIONS
        return _ELEMENT_LETTERS if streamed else _CAPTURED_LETTERS


def _numbered(letter: str, taken: Sequence[str]) -> str:
    """`letter`, with a number when it is taken already."""
    count = sum(name.rstrip("0123456789") == letter for name in taken)
    return f"{letter}{count + 1}" if count else letter
