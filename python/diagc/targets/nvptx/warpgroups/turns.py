"""Groups of a block that take turns to issue their products: one computes beside those of another.

Without turns all groups issue the products of a chunk at the same time, and then all wait for
special functions. With them the products of one group are over when those of the next one begin,
and what a group computes between its products stands beside the others': "ping-pong scheduling"
of FlashAttention-3, arXiv 2407.08608, 3.1.

Each group has a barrier of its own, at which it waits for its turn; the group before it arrives
there, without a wait, when it has issued its products. Turns go round through all tiles that a
block takes, as all groups of a block take the same steps. The last group gives the first turn; the
first group takes the last one, so that nobody has arrived at a barrier when the block ends.
"""

from dataclasses import dataclass
from functools import partial

from diagc.errors import UnsupportedError
from diagc.mlir import arith, ir
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.plan import Plan
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.instructions import WARPGROUP, WarpgroupCode
from diagc.targets.nvptx.warpgroups.lagging_plan import lagging_products

__all__ = ["ProductTurns", "check_turns", "may_take_turns"]


def may_take_turns(plan: Plan, warps: int) -> bool:
    """Whether there are several groups, whose products of a chunk are all issued at one place."""
    return 32 * warps > WARPGROUP and bool(lagging_products(plan))


def check_turns(plan: Plan, schedule: TileSchedule) -> None:
    """Refuse turns where there can be none.

    Raises:
        UnsupportedError: there is one group, or no product lags a chunk behind.
    """
    if schedule.turns and not may_take_turns(plan, schedule.warps):
        reason = "warpgroups: only several groups whose last products lag can take turns"
        raise UnsupportedError(plan.kernel.name, reason=reason, location=plan.kernel.location)


@dataclass(frozen=True)
class ProductTurns:
    """Emits what a group does at its turns.

    Args:
        code: emitter.
        groups: that compute.
        group: number of the thread's own, the same in a warp.
    """

    code: WarpgroupCode
    groups: int
    group: Index

    def begin(self) -> None:
        """Before the first turn."""
        self.code.when(self._is(self.groups - 1), partial(self.code.give_turn, 0))

    def take(self) -> None:
        """Wait for the group's turn."""
        self.code.wait_turn(self.group)

    def give(self) -> None:
        """It is the next group's turn."""
        code, further = self.code, self.code.index(self.code.add(self.group, 1))
        wraps = arith.cmpi(arith.CmpIPredicate.eq, further, code.index(self.groups))
        code.give_turn(arith.select(wraps, code.index(0), further))

    def end(self) -> None:
        """Behind the last turn."""
        self.code.when(self._is(0), self.take)

    def _is(self, group: int) -> ir.Value:
        code = self.code
        return arith.cmpi(arith.CmpIPredicate.eq, code.index(self.group), code.index(group))
