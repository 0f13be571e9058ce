"""A stream whose chunks another warp copies: the loop counts stages and phases of their rings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from diagc.mlir import ir
from diagc.targets.nvptx.tiles.bounds import Bounds, stream_bounds
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.layouts import Tile
from diagc.targets.nvptx.tiles.plan import Product
from diagc.targets.nvptx.tiles.regions import Region
from diagc.targets.nvptx.tiles.streams import StreamLoop
from diagc.targets.nvptx.warpgroups.fit import column_tile
from diagc.targets.nvptx.warpgroups.instructions import WarpgroupCode
from diagc.targets.nvptx.warpgroups.lagging import LaggingLoop
from diagc.targets.nvptx.warpgroups.lagging_plan import early_products, lagging_products
from diagc.targets.nvptx.warpgroups.products import WarpgroupProduct, warpgroup_product
from diagc.targets.nvptx.warpgroups.staging import BulkStaging, next_stage

__all__ = ["BulkLoop", "lower_bulk_stream"]


def lower_bulk_stream(region: Region, op: ir.Operation) -> list[Tile]:
    """The results of a stream."""
    stream = BulkLoop(region, op)
    states = stream.run(stream_bounds(region, op, stream.axis))
    if region.frame.schedule.stays and stream.staging.releases_early:
        stream.staging.release_fixed()
    return stream.tail(states)


@dataclass(eq=False)
class BulkLoop(StreamLoop):
    """The loop; of products of rows that stay, others lag a chunk behind (see `lagging`).

    Where these cannot, products of rows that stay run ahead, beside the arithmetic of the others:

    first products of the first chunk
    for j in all chunks but the last one:
      issue the first products of chunk j + 1; the body of chunk j; wait for all products
    the body of the last chunk
    """

    @property
    def staging(self) -> BulkStaging:
        """Tiles in shared memory."""
        assert isinstance(self.region.staging, BulkStaging)
        return self.region.staging

    @property
    def code(self) -> WarpgroupCode:
        """Emitter."""
        return self.staging.code

    def run(self, bounds: Bounds) -> list[ir.Value]:
        """The states after all chunks."""
        self.staging.wait_fixed()
        ahead = early_products(self.region.plan)
        if not ahead:
            return self._in_turn(bounds)
        inits = [*self.init(), *self._ring()]
        some = self.code.less(bounds.first, bounds.last)
        late = lagging_products(self.region.plan)
        run = partial(self._pipelined, bounds, ahead)
        if late:
            run = partial(LaggingLoop(self, ahead, late).run, bounds, *self._ring())
        found = self.code.choose_values(some, run, lambda: inits)
        return self._leave(found)

    def _ring(self) -> list[ir.Value]:
        return [self.code.index(x) for x in self.staging.ring]

    def _leave(self, carried: Sequence[ir.Value]) -> list[ir.Value]:
        """Split stage and parity of the next chunk from the states."""
        *states, stage, phase = carried
        self.staging.ring = stage, phase
        self.region.frame.spans.pop(self.axis, None)
        return states

    def further(self, stage: Index, phase: Index) -> tuple[ir.Value, ir.Value]:
        """The stage of the next chunk, and its parity."""
        return next_stage(self.code, stage, phase, self.region.frame.schedule.stages)

    # -- one chunk after the other -----------------------------------------------------------------
    def _in_turn(self, bounds: Bounds) -> list[ir.Value]:
        code = self.code
        carried = [*self.init(), *self._ring()]
        for low, high, full in bounds.ranges():
            carried = code.loop(low, high, 1, carried, partial(self._step, bounds, full=full))
        return self._leave(carried)

    def _step(
        self, bounds: Bounds, number: Index, carried: Sequence[ir.Value], *, full: bool
    ) -> list[ir.Value]:
        *states, stage, phase = carried
        self.staging.begin_chunk(stage, phase)
        found = self._body(bounds, number, states, full=full)
        if self.region.plan.walked is not None:  # the product has gone on, stage by stage
            return [
                *found,
                self.code.index(self.staging.stage),
                self.code.index(self.staging.phase),
            ]
        return [*found, *next_stage(self.code, stage, phase, self.region.frame.schedule.stages)]

    def _body(
        self, bounds: Bounds, number: Index, states: Sequence[ir.Value], *, full: bool
    ) -> list[ir.Value]:
        frame = self.region.frame
        frame.spans[self.axis] = self.span(bounds, number, full=full)
        frame.keeps_all = full
        found = self.region_states(1, states)
        frame.keeps_all = False
        self.staging.end_chunk()
        return found

    # -- first products ahead ----------------------------------------------------------------------
    def _pipelined(self, bounds: Bounds, ahead: Sequence[Product]) -> list[ir.Value]:
        code, ring = self.code, self._ring()
        self.region.frame.spans[self.axis] = self.span(bounds, bounds.first)
        self._issue(ahead, *ring)
        carried = [*self.init(), *self.staging.take_ahead(), *ring]
        end = code.sub(bounds.last, 1)
        middle = code.min(bounds.full, end)
        for low, high, full in Bounds(bounds.first, middle, end, bounds.size).ranges():
            step = partial(self._ahead_step, bounds, ahead, full=full)
            carried = code.loop(low, high, 1, carried, step)
        *rest, stage, phase = carried
        states = self._give(ahead, rest)
        self.staging.begin_chunk(stage, phase)
        found = self._body(bounds, end, states, full=False)
        return [*found, *next_stage(code, stage, phase, self.region.frame.schedule.stages)]

    def _ahead_step(
        self,
        bounds: Bounds,
        ahead: Sequence[Product],
        number: Index,
        carried: Sequence[ir.Value],
        *,
        full: bool,
    ) -> list[ir.Value]:
        *rest, stage, phase = carried
        further = next_stage(self.code, stage, phase, self.region.frame.schedule.stages)
        self.region.frame.spans[self.axis] = self.span(bounds, number, full=full)
        states = self._give(ahead, rest)
        self._issue(ahead, *further)
        self.staging.begin_chunk(stage, phase)
        self._wait_others(ahead)
        found = self._body(bounds, number, states, full=full)
        return [*found, *self.staging.take_ahead(), *further]

    def _issue(self, ahead: Sequence[Product], stage: Index, phase: Index) -> None:
        """Issue products of a chunk; whoever waits next takes their sums."""
        self.staging.begin_chunk(stage, phase)
        for product in ahead:
            made = warpgroup_product(self.region, product)
            assert isinstance(made, WarpgroupProduct)
            made.issue_ahead()

    def _wait_others(self, ahead: Sequence[Product]) -> None:
        """Wait for this chunk's tiles here, where they have come long ago.

        The branch of the wait holds ptxas from issuing the products amid the arithmetic behind it.
        """
        read = {column_tile(self.region.plan, product) for product in ahead}
        for staged in self.staging.places.streamed:
            if staged not in read:
                self.staging.wait_chunk(staged)
                self.staging.turn(staged)

    def _give(self, ahead: Sequence[Product], rest: Sequence[ir.Value]) -> list[ir.Value]:
        """The sums that come last are those of this chunk's first products."""
        left = list(rest)
        for product in reversed(ahead):
            count = 4 * self.region.frame.columns(product.column)
            self.staging.given[product.op.results[0]] = left[-count:]
            del left[-count:]
        return left
