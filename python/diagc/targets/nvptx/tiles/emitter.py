"""Emits upstream ops: i32 arithmetic that folds constants, addresses, and scopes of loops.

Every block of the kernel that is being written is a `Scope`. A value that is wanted inside a loop
but belongs to a scope outside of it is emitted before the loop (`Emitter.within`), so that values
may be computed when they are first asked for and still dominate all their uses.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from diagc.errors import InternalError
from diagc.mlir import arith, ir, scf
from diagc.targets.elementwise.code import Index
from diagc.targets.nvptx.scalar_code import GpuScalarCode

__all__ = ["Emitter", "Index", "Scope"]

_NO_WRAP = "#arith.overflow<nsw>"
_ROLLED = "#llvm.loop_annotation<unroll = <disable = true>>"


@dataclass(eq=False)
class Scope:
    """A block that is being written; `holder` is the op that contains it, None for the function."""

    holder: ir.Operation | None = None


class Emitter(GpuScalarCode):
    """Writes ops at the current insertion point; needs an ambient context and location."""

    def __init__(self) -> None:
        super().__init__()
        self._no_wrap = ir.Attribute.parse(_NO_WRAP)
        self._rolled = ir.Attribute.parse(_ROLLED)
        self._scopes = [Scope()]
        self._constants: dict[tuple[ir.Type, str], ir.Value] = {}

    # -- constants -----------------------------------------------------------------------------
    def scalar(self, type_: ir.Type, value: float) -> ir.Value:
        """A scalar constant of any element type; each is written once, in the outermost scope."""
        key = type_, repr(value)  # tells -0.0 from 0.0
        if key not in self._constants:
            with self.within(self._scopes[0]):
                self._constants[key] = super().scalar(type_, value)
        return self._constants[key]

    def index(self, value: Index) -> ir.Value:
        """An i32 value; an int becomes a constant."""
        return self.scalar(self.i32, value) if isinstance(value, int) else value

    # -- scopes --------------------------------------------------------------------------------
    @property
    def scope(self) -> Scope:
        """The innermost scope."""
        return self._scopes[-1]

    @contextmanager
    def region(self, holder: ir.Operation, block: ir.Block) -> Iterator[Scope]:
        """Write the block of an op that stands in the current scope."""
        scope = Scope(holder)
        self._scopes.append(scope)
        try:
            with ir.InsertionPoint(block):
                yield scope
        finally:
            self._scopes.pop()

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        """Write in an open scope: before the op in it that holds the current one."""
        if scope is self.scope:
            yield
            return
        if scope not in self._scopes:
            raise InternalError("a value of a closed loop is used outside of it")
        depth = self._scopes.index(scope) + 1
        inner, self._scopes = self._scopes, self._scopes[:depth]
        try:
            with ir.InsertionPoint(inner[depth].holder):
                yield
        finally:
            self._scopes = inner

    # -- control flow --------------------------------------------------------------------------
    def loop(
        self,
        low: Index,
        high: Index,
        step: int,
        carried: Sequence[ir.Value],
        body: Callable[[Index, list[ir.Value]], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """`for (i32 i = low; i < high; i += step)`; `body` gives the carried values anew."""
        bounds = [self.index(low), self.index(high), self.index(step)]
        loop = scf.ForOp(*bounds, list(carried))
        # what is to be unrolled is; ptxas would unroll loops of known length twentyfold
        loop.operation.attributes["llvm.loop_annotation"] = self._rolled
        with self.region(loop.operation, loop.body):
            found = body(loop.induction_variable, list(loop.inner_iter_args))
            scf.yield_(list(found))
        return list(loop.results)

    def when(self, condition: ir.Value, then: Callable[[], None]) -> None:
        """A branch without results."""
        branch = scf.IfOp(condition)
        with self.region(branch.operation, branch.then_block):
            then()
            scf.yield_([])

    def choose(
        self, condition: ir.Value, first: Callable[[], None], second: Callable[[], None]
    ) -> None:
        """One branch or the other."""
        branch = scf.IfOp(condition, has_else=True)
        for block, body in ((branch.then_block, first), (branch.else_block, second)):
            with self.region(branch.operation, block):
                body()
                scf.yield_([])

    # -- i32 arithmetic ------------------------------------------------------------------------
    def add(self, a: Index, b: Index) -> Index:
        """A + b, without overflow."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if b == 0 and isinstance(b, int):
            return a
        if a == 0 and isinstance(a, int):
            return b
        operands = [self.index(a), self.index(b)]
        return arith.AddIOp(*operands, overflowFlags=self._no_wrap).result

    def sub(self, a: Index, b: Index) -> Index:
        """A - b, without overflow."""
        if isinstance(b, int):
            return self.add(a, -b)
        return arith.SubIOp(self.index(a), b, overflowFlags=self._no_wrap).result

    def mul(self, a: Index, b: Index) -> Index:
        """A * b, without overflow."""
        if isinstance(a, int):
            a, b = b, a
        if isinstance(b, int):
            if isinstance(a, int):
                return a * b
            if b in (0, 1):
                return a if b else 0
        return arith.MulIOp(self.index(a), self.index(b), overflowFlags=self._no_wrap).result

    def div(self, a: Index, b: Index) -> Index:
        """Quotient of non-negative numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if isinstance(b, int) and b == 1 else arith.divui(self.index(a), self.index(b))

    def rem(self, a: Index, b: Index) -> Index:
        """Remainder of non-negative numbers."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        return 0 if isinstance(b, int) and b == 1 else arith.remui(self.index(a), self.index(b))

    def ceil_div(self, a: Index, b: Index) -> Index:
        """How many tiles of b cover a (a >= 0)."""
        return self.div(self.add(a, self.sub(b, 1)), b)

    def bit_and(self, a: Index, b: Index) -> Index:
        """Bitwise and."""
        if isinstance(a, int) and isinstance(b, int):
            return a & b
        return arith.andi(self.index(a), self.index(b))

    def bit_xor(self, a: Index, b: Index) -> Index:
        """Bitwise exclusive or."""
        if isinstance(a, int) and isinstance(b, int):
            return a ^ b
        return a if isinstance(b, int) and b == 0 else arith.xori(self.index(a), self.index(b))

    def wide(self, a: Index) -> ir.Value:
        """An i32 as i64."""
        if isinstance(a, int):
            return self.scalar(self.i64, a)
        return a if a.type == self.i64 else arith.extsi(self.i64, a)

    def both(self, a: ir.Value | None, b: ir.Value | None) -> ir.Value | None:
        """Conjunction of conditions, None for one that always holds."""
        if a is None or b is None:
            return b if a is None else a
        return arith.andi(a, b)
