"""Writes the host's version of a kernel, line by line, and remembers where every check belongs."""

from dataclasses import dataclass, field

from diagc.simulator.types import Operand

__all__ = ["SCRATCH", "Emitter", "Site"]

SCRATCH = "%sim.scratch"
"""Stack memory of each function, through which operands of wide instructions go."""


@dataclass(frozen=True)
class Site:
    """One instruction of the kernel that may be reported.

    Args:
        op: the instruction or intrinsic, such as `store` or `cp.async.wait.group`.
        text: its line of LLVM IR.
        line: number of that line in the text that was simulated, from 1.
        location: of the operation it was made from, as `file:line:column`, where it is known.
    """

    op: str
    text: str
    line: int
    location: str | None

    def __str__(self) -> str:
        """Operation and place, in one line."""
        place = self.location or f"line {self.line} of the LLVM IR"
        return f"{self.op} at {place}"


@dataclass
class Emitter:
    """Lines of the host's module; `site` is the number of the instruction that is rewritten now."""

    lines: list[str] = field(default_factory=list)
    declarations: dict[str, str] = field(default_factory=dict)
    site: int = 0
    _names: int = 0

    def line(self, text: str) -> None:
        """Append an instruction."""
        self.lines.append("  " + text)

    def fresh(self) -> str:
        """A name that the kernel does not use."""
        self._names += 1
        return f"%sim.{self._names}"

    def value(self, kind: str, text: str) -> Operand:
        """Append an instruction that gives a value of type `kind`."""
        name = self.fresh()
        self.line(f"{name} = {text}")
        return Operand(kind, name)

    def call(self, result: str, function: str, *operands: Operand, into: str = "") -> Operand:
        """Call a function of the run time, with the number of the site as last operand."""
        operands = (*operands, Operand("i32", str(self.site)))
        types = ", ".join(item.type for item in operands)
        self.declarations[function] = f"declare {result} @{function}({types})"
        text = f"call {result} @{function}({', '.join(item.text for item in operands)})"
        if result == "void":
            self.line(text)
            return Operand("void", "")
        name = into or self.fresh()
        self.line(f"{name} = {text}")
        return Operand(result, name)

    def slot(self, index: int, bytes_each: int = 8) -> str:
        """Address of a slot of the scratch memory."""
        return self.value("ptr", f"getelementptr i8, ptr {SCRATCH}, i64 {index * bytes_each}").value
