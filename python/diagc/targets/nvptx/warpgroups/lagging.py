"""A stream whose last products lag a chunk behind, beside the arithmetic of the next chunk.

    first products of the first chunk; its arithmetic
    for j in all chunks but the first one:
      issue the first products of chunk j, then the last ones of chunk j - 1, in turn (`turns`)
      wait for the first products; arithmetic of chunk j
      wait for the last products; correct their sums, pack the rows of the next ones
    the last products of the last chunk

A last product is added to what a state is otherwise: state' = f(state) + product. Its rows, packed,
and f(state) are carried in its place, so scores need no registers of their own for two chunks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.bounds import Bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.plan import Product, Staged
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.streams import Element
from diagc.targets.nvptx.warpgroups.fit import column_tile
from diagc.targets.nvptx.warpgroups.products import (
    WarpgroupProduct,
    lagging_product,
    warpgroup_product,
)
from diagc.targets.nvptx.warpgroups.staging import BulkStaging

if TYPE_CHECKING:
    from diagc.targets.nvptx.warpgroups.streams import BulkLoop

__all__ = ["LaggingLoop"]


@dataclass(eq=False)
class LaggingLoop:
    """Writes the loop.

    Args:
        loop: the stream.
        early: products that a chunk begins with.
        late: those that lag, by the number of their state.
    """

    loop: "BulkLoop"
    early: Sequence[Product]
    late: Mapping[int, Product]
    _bounds: Bounds = field(init=False)

    @property
    def region(self) -> Region:
        """What the stream is part of."""
        return self.loop.region

    @property
    def staging(self) -> BulkStaging:
        """Tiles in shared memory."""
        return self.loop.staging

    def run(self, bounds: Bounds, stage: ir.Value, phase: ir.Value) -> list[ir.Value]:
        """The states after all chunks, of which there is one or more; then the next place.

        Args:
            bounds: chunks.
            stage: of the first chunk.
            phase: its parity.
        """
        code, self._bounds = self.staging.code, bounds
        self._span(bounds.first, full=False)
        self.staging.begin_chunk(stage, phase)
        self._take(self._issue_early(), 0)
        carried = self._body(self.loop.init(), full=False)
        self._wait_next(bounds.first)
        carried += [stage, phase]
        second = code.add(bounds.first, 1)
        middle = code.max(bounds.full, second)
        for low, high, full in Bounds(second, middle, bounds.last, bounds.size).ranges():
            step = partial(self._step, full=full)
            carried = code.loop(low, high, 1, carried, step)
        return self._last(carried)

    # -- chunks ----------------------------------------------------------------------------------
    def _step(self, number: Index, carried: Sequence[ir.Value], *, full: bool) -> list[ir.Value]:
        *rest, stage, phase = carried
        states, words = self._split(rest)
        further, turns = self.loop.further(stage, phase), self.staging.turns
        self._span(number, full=full)
        there = self._late_tiles() if turns is not None else []
        with self.staging.elsewhere(stage, phase):
            for staged in there:  # whoever has the turn waits for nothing
                self.staging.wait_chunk(staged)
        if turns is not None:
            turns.take()
        self.staging.begin_chunk(*further, there=self._early_tiles())
        early = self._issue_early()
        self.staging.begin_chunk(stage, phase, there)
        late = self._issue_late(states, words)
        if turns is not None:
            turns.give()
        self.staging.begin_chunk(*further, there=self._early_tiles())
        self._take(early, len(late))
        landing = _Landing(self, late, number, (stage, phase))
        found = self._body(landing.states(states), full=full)
        return [*found, *further]

    def _last(self, carried: Sequence[ir.Value]) -> list[ir.Value]:
        """The states when all products are over."""
        *rest, stage, phase = carried
        states, words = self._split(rest)
        self.staging.begin_chunk(stage, phase)
        found = self._wait_late(self._issue_late(states, words))
        elements = (x for number, old in enumerate(states) for x in found.get(number, old))
        return [*elements, *self.loop.further(stage, phase)]

    def land(
        self, sums: Mapping[int, list[ir.Value]], number: Index, before: tuple[Index, Index]
    ) -> dict[int, list[ir.Value]]:
        """Wait for last products of the chunk in front of this one, which it is in the midst of."""
        self._wait_next(number)
        with self.staging.elsewhere(*before):
            return self._wait_late(sums)

    def _body(self, states: Sequence[Element], *, full: bool) -> list[ir.Value]:
        """States that lack the last products, and the words of these; what lands comes last."""
        frame, staging = self.region.frame, self.staging
        staging.lagging = {product.op.results[0]: [] for product in self.late.values()}
        frame.keeps_all = full
        found = self.loop.region_states(1, states, last=self.late)
        frame.keeps_all = False
        staging.end_chunk()
        words = [staging.lagging[product.op.results[0]] for product in self.late.values()]
        assert all(words), "what lags is added to a state"
        staging.lagging = {}
        return [*found, *(word for each in words for word in each)]

    def _split(self, rest: Sequence[ir.Value]) -> tuple[list[list[ir.Value]], list[ir.Value]]:
        """Elements of each state, and the words."""
        left = list(rest)
        states = []
        for argument in self.loop.op.regions[1].blocks[0].arguments:
            count = len(self.loop.slots_of(argument))
            states.append(left[:count])
            del left[:count]
        return states, left

    def _span(self, number: Index, *, full: bool) -> None:
        self.region.frame.spans[self.loop.axis] = self.loop.span(self._bounds, number, full=full)

    # -- products --------------------------------------------------------------------------------
    def _early_tiles(self) -> list[Staged]:
        return list(dict.fromkeys(column_tile(self.region.plan, p) for p in self.early))

    def _late_tiles(self) -> list[Staged]:
        return list(dict.fromkeys(column_tile(self.region.plan, p) for p in self.late.values()))

    def _issue_early(self) -> list[list[ir.Value]]:
        """Sums of each, not there yet."""
        found = []
        for product in self.early:
            made = warpgroup_product(self.region, product)
            assert isinstance(made, WarpgroupProduct)
            found.append(made.issue([], made.words()))
        return found

    def _take(self, early: Sequence[list[ir.Value]], pending: int) -> None:
        """Wait for them, but not for products behind them; the body is given their sums."""
        found = self.staging.code.wait_products(pending, [x for sums in early for x in sums])
        for staged in self._early_tiles():
            self.staging.free(staged)
        for product, sums in zip(self.early, early, strict=True):
            self.staging.given[product.op.results[0]] = found[: len(sums)]
            found = found[len(sums) :]

    def _issue_late(
        self, states: Sequence[list[ir.Value]], words: Sequence[ir.Value]
    ) -> dict[int, list[ir.Value]]:
        """Sums of each, not there yet, by state."""
        found, left = {}, list(words)
        for number, product in self.late.items():
            made = lagging_product(self.region, product)
            count = 4 * made.steps
            found[number] = made.issue(states[number], left[:count])
            del left[:count]
        return found

    def _wait_late(self, sums: Mapping[int, list[ir.Value]]) -> dict[int, list[ir.Value]]:
        """Their sums, by state; the tiles of the chunk that is read may be filled again."""
        flat = self.staging.code.wait_products(0, [x for each in sums.values() for x in each])
        for staged in self._late_tiles():
            self.staging.free(staged)
        found = {}
        for number, values in sums.items():
            found[number], flat = flat[: len(values)], flat[len(values) :]
        return found

    def _wait_next(self, number: Index) -> None:
        """Wait for the first tiles of the next chunk, where there is one."""
        staging, code = self.staging, self.staging.code
        further = self.loop.further(staging.stage, staging.phase)

        def wait() -> None:
            with staging.elsewhere(*further):
                for staged in self._early_tiles():
                    staging.wait_chunk(staged)

        code.when(code.less(code.add(number, 1), self._bounds.last), wait)


@dataclass(eq=False)
class _Landing:
    """Last products that are under way, until an element of their sums is read.

    Then this waits for them, behind a wait for the next chunk: without a branch there ptxas moves
    the arithmetic behind the wait for the products, where nothing is beside it.
    """

    owner: LaggingLoop
    sums: Mapping[int, list[ir.Value]]
    number: Index
    before: tuple[Index, Index]
    _found: dict[int, list[ir.Value]] = field(default_factory=dict)

    def states(self, states: Sequence[list[ir.Value]]) -> list[Element]:
        """The elements that the arithmetic of a chunk begins with."""
        return [
            partial(self._element, number, place) if number in self.sums else value
            for number, values in enumerate(states)
            for place, value in enumerate(values)
        ]

    def _element(self, number: int, place: int) -> ir.Value:
        if not self._found:
            self._found = self.owner.land(self.sums, self.number, self.before)
        return self._found[number][place]
