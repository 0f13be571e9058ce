"""Registers of asynchronous products in PTX: what the simulator, which knows values, cannot see.

PTX ISA, "Asynchronous warpgroup level matrix instructions": wgmma.fence stands between whatever
touches a register and the product that uses it, and until the wait that covers a product nothing
touches its sums, nor writes its words of A. Only products of the same sums may follow each other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

__all__ = ["lacking_registers", "misuses"]

_ENTRY = re.compile(r"\.entry (?P<name>\w+)\(.*?\n\{\n(?P<body>.*?)\n\}", re.DOTALL)
_LABEL = re.compile(r"^(?P<name>\$\w+):$")
_BRANCH = re.compile(r"^(?P<guard>@!?%p\d+\s+)?bra(?:\.uni)?\s+(?P<to>\$\w+);")
_GUARD = re.compile(r"^@!?(?P<register>%p\d+)\s+")
_PRODUCT = re.compile(r"mma_async\S*\s+\{(?P<sums>[^}]*)\},\s*(?P<a>\{[^}]*\}|%\w+),")
_WAIT = re.compile(r"wgmma\.wait_group\S*\s+(?P<pending>\d+);")
_CHANGE = re.compile(r"setmaxnreg\.(?P<how>inc|dec)\S*\s+(?P<count>\d+);")
_WARPGROUP = 128
_REGISTER = re.compile(r"%[a-z]+\d+")
# they have no results; inline assembly that waits for an mbarrier begins with a brace
_ONLY_READS = ("st.", "bra", "mbarrier.init", "bar", "cp.", "stmatrix", "red.", "{")

_Registers = frozenset[str]
_NONE: _Registers = frozenset()


@dataclass(frozen=True)
class _Group:
    """Registers of products: sums, and words of A."""

    sums: _Registers = _NONE
    words: _Registers = _NONE

    def __or__(self, other: "_Group") -> "_Group":
        return _Group(self.sums | other.sums, self.words | other.words)


@dataclass(frozen=True)
class _State:
    """Before an instruction: groups under way, the last one first; what no fence is behind of."""

    groups: tuple[_Group, ...] = ()
    open: _Group = field(default_factory=_Group)
    touched: _Registers = _NONE
    fenced: bool = False

    @property
    def under_way(self) -> _Group:
        found = self.open
        for group in self.groups:
            found |= group
        return found

    def joined(self, other: "_State") -> "_State":
        """What may be, where two ways meet."""
        count = max(len(self.groups), len(other.groups))
        ours, theirs = (
            (*state.groups, *[_Group()] * (count - len(state.groups))) for state in (self, other)
        )
        return _State(
            tuple(a | b for a, b in zip(ours, theirs, strict=True)),
            self.open | other.open,
            self.touched | other.touched,
            self.fenced and other.fenced,
        )


def misuses(ptx: str) -> list[str]:
    """Sentences, one for each instruction of a module that breaks a rule."""
    found = []
    for entry in _ENTRY.finditer(ptx):
        if "wgmma.mma_async" in entry["body"]:
            sentences = _Function(entry["body"]).misuses()
            found += [f"{entry['name']}: {sentence}" for sentence in sentences]
    return found


def lacking_registers(ptx: str, symbol: str, threads: int, registers: int) -> int:
    """How many a block lacks for what setmaxnreg asks: the warps that ask would wait for ever.

    Args:
        ptx: of a module whose first warpgroup gives registers to all others.
        symbol: of a function.
        threads: of a block.
        registers: of a thread when it starts.
    """
    body = next(entry["body"] for entry in _ENTRY.finditer(ptx) if entry["name"] == symbol)
    asked = {change["how"]: int(change["count"]) for change in _CHANGE.finditer(body)}
    if not asked:
        return 0
    wanted = _WARPGROUP * asked["dec"] + (threads - _WARPGROUP) * asked["inc"]
    return max(wanted - threads * registers, 0)


class _Function:
    """The instructions of a function, one a line, and where each goes on."""

    def __init__(self, body: str) -> None:
        self.lines: list[str] = []
        self.labels: dict[str, int] = {}
        for text in body.splitlines():
            line = text.partition("//")[0].strip()
            label = _LABEL.match(line)
            if label:
                self.labels[label["name"]] = len(self.lines)
            elif line and not line.startswith("."):
                self.lines.append(line)

    def misuses(self) -> list[str]:
        """By states before each instruction, which grow until they do not change."""
        products = [found for line in self.lines if (found := _PRODUCT.search(line))]
        used = _NONE.union(*(_operands(x).sums | _operands(x).words for x in products))
        states: dict[int, _State] = {0: _State()}
        broken: dict[tuple[int, str], None] = {}
        todo = [0]
        while todo:
            number = todo.pop()
            line, state = self.lines[number], states[number]
            broken |= {(number, why): None for why in _broken(line, state)}
            after = _after(line, state, used)
            for following in self._following(number):
                known = states.get(following)
                state = after if known is None else known.joined(after)
                if state != known:
                    states[following] = state
                    todo.append(following)
        return [f"{why}: {self.lines[number][:100]}" for number, why in sorted(broken)]

    def _following(self, number: int) -> Iterator[int]:
        branch = _BRANCH.match(self.lines[number])
        if branch:
            yield self.labels[branch["to"]]
        if not self.lines[number].startswith("ret") and (not branch or branch["guard"]):
            yield number + 1


def _broken(line: str, state: _State) -> Iterator[str]:
    product = _PRODUCT.search(line)
    if product:
        used = _operands(product)
        if not state.fenced:
            yield "no fence"
        if (used.sums | used.words) & state.touched:
            yield "no fence behind what touches its registers"
        if used.words & state.under_way.sums:
            yield "words of A are sums under way"
    elif line.startswith("ret"):
        if state.under_way.sums:
            yield "products under way at the end"
    elif "wgmma." not in line:
        writes, reads = _accesses(line)
        if (writes | reads) & state.under_way.sums:
            yield "touches sums under way"
        if writes & state.under_way.words:
            yield "writes words of A of products under way"


def _after(line: str, state: _State, used: _Registers) -> _State:
    product, wait = _PRODUCT.search(line), _WAIT.search(line)
    if product:
        return replace(state, open=state.open | _operands(product))
    if wait:
        return replace(state, groups=state.groups[: int(wait["pending"])])
    if "wgmma.commit_group" in line:
        return replace(state, groups=(state.open, *state.groups), open=_Group())
    if "wgmma.fence" in line:
        return replace(state, touched=_NONE, fenced=True)
    writes, reads = _accesses(line)
    touched = (writes | reads) & used
    return state if touched <= state.touched else replace(state, touched=state.touched | touched)


def _operands(product: re.Match[str]) -> _Group:
    words = product["a"] if product["a"].startswith("{") else ""
    return _Group(*(frozenset(_REGISTER.findall(text)) for text in (product["sums"], words)))


def _accesses(line: str) -> tuple[_Registers, _Registers]:
    """(written, read): the first operand, which may be a list, is what is written."""
    guard = _GUARD.match(line)
    read = frozenset([guard["register"]]) if guard else _NONE
    line = line[guard.end() :] if guard else line
    every = frozenset(_REGISTER.findall(line))
    if line.startswith(_ONLY_READS):
        return _NONE, read | every
    operands = line.partition(" ")[2] or line.partition("\t")[2]
    operands = operands.strip()
    end = operands.find("}" if operands.startswith("{") else ",")
    target = frozenset(_REGISTER.findall(operands[:end] if end >= 0 else operands))
    return target, read | frozenset(_REGISTER.findall(operands[end:] if end >= 0 else ""))
