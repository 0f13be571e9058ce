"""What autotuning measures of a kernel for a GPU: sizes of tiles."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from diagc.cost import Device, cpu_device
from diagc.errors import TargetError
from diagc.mlir import ir
from diagc.passes.kernels.generalize_kernels import opened_copy
from diagc.passes.kernels.select_schedule import select_schedule
from diagc.targets.nvptx.selection import TILES, compared_tiles, tiles_attribute, tiles_beside
from diagc.targets.nvptx.tiles.schedule import TileSchedule

__all__ = ["TileChoices", "choices"]

Tiles = tuple[TileSchedule, ...]
"""What a kernel carries: a schedule on tiles, in front of it perhaps one on warpgroups; behind them
what stands beside for calls with few blocks."""


@dataclass(frozen=True)
class TileChoices:
    """Sizes of tiles as `diagc.autotune.Choices`."""

    device: Device
    attribute: str = TILES

    def candidates(
        self, kernel: ir.Operation, sizes: Mapping[str, int] | None = None
    ) -> Sequence[Tiles]:
        """All that fit, the fastest by estimate first; nothing for a kernel without tiles.

        Args:
            kernel: at the stage `kernels`.
            sizes: of axes that are open, by their labels in the signature.
        """
        select_schedule(kernel, cpu_device())
        with kernel.context, kernel.location:
            copy, known = opened_copy(kernel)
            ranked = compared_tiles(copy, {**(sizes or {}), **known}, self.device)
            few = tiles_beside(copy, known, self.device)
        if few:  # blocks share the stream there
            ranked = [tile for tile in ranked if not tile.split]
        beside = [tile for tile in ranked if not tile.producers][:1]
        return [(tile, *(beside if tile.producers else ()), *few) for tile in ranked]

    def put(self, kernel: ir.Operation, choice: Tiles) -> None:
        """Give the kernel tiles."""
        with kernel.context:
            kernel.attributes[TILES] = tiles_attribute(choice)

    def dump(self, choice: Tiles) -> str:
        """Tiles as JSON."""
        return json.dumps([asdict(each) for each in choice])

    def load(self, kernel: ir.Operation, text: str) -> Tiles:
        """The tiles of a text.

        Raises:
            ValueError, TypeError, KeyError: they are none, or none that the kernel may have.
        """
        found = tuple(TileSchedule(**fields) for fields in json.loads(text))
        known = {replace(tile, split=0) for tiles in self.candidates(kernel) for tile in tiles}
        # sizes of one class have parts of different lengths
        if not found or not {replace(tile, split=0) for tile in found} <= known:
            raise ValueError(f"the kernel cannot have {found}")
        return found


def choices(device: Device) -> TileChoices:
    """What may be chosen for a kernel on this device.

    Raises:
        TargetError: there is no GPU to measure on.
    """
    from diagc.runtime.cuda.torch_streams import current_index  # torch

    try:
        current_index()
    except TargetError as error:
        raise TargetError(
            "autotuning measures kernels on a GPU",
            found=error.message,
            remedy="leave it out: the cost model chooses; or measure where there is a GPU",
        ) from None
    return TileChoices(device)
