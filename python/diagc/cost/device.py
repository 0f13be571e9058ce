"""A device as the cost model sees it: memory levels, their bandwidths, peak rates and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = ["TENSOR_DTYPES", "Device", "Level", "Rate"]


TENSOR_DTYPES = {"f32": "tf32", "f8E4M3FN": "f16"}
"""What tensor cores take for a dtype by instructions that do not take it itself."""


@dataclass(frozen=True)
class Level:
    """One level of memory.

    Args:
        name: such as "l2"; the last one of a device is "memory".
        size: bytes of one instance.
        bandwidth: bytes per second that all its instances give to what is faster, together.
        shared_by: "unit", each core or multiprocessor has one, or "device", there is one.
        source: where the figures are from.
        latency: seconds until a read that waits for nothing else is answered; 0 where not known.
    """

    name: str
    size: int
    bandwidth: float
    shared_by: str = "device"
    source: str = ""
    latency: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a level that holds or moves nothing."""
        if self.size <= 0 or self.bandwidth <= 0:
            raise ValueError(f"level {self.name} needs a positive size and bandwidth")


@dataclass(frozen=True)
class Rate:
    """What all units of a device do in a second on one pipe, for one element type.

    Args:
        pipe: "tensor", "mma" and "fma" count FLOPs, a multiply-add as two: of tensor cores at best,
            of tensor cores by instructions of a single warp, where these are slower, of vector
            units. "special" counts results of exponentials and other functions that are no addition
            or multiplication. "library" and "tiles" are FLOPs that large products of matrices reach
            in torch's library and in our tiles.
        dtype: such as "f32".
        per_second: at best.
        source: where the figure is from.
    """

    pipe: str
    dtype: str
    per_second: float
    source: str = ""


@dataclass(frozen=True)
class Device:
    """Levels from the fastest to main memory, rates, limits, and what a start costs.

    Args:
        name: by which it is found.
        summary: for people.
        kind: "cpu" or "gpu".
        units: cores or multiprocessors.
        levels: the fastest first.
        rates: of all units together.
        launch_seconds: from the start of an empty kernel to its end, when one follows another.
        call_seconds: of a call of a compiled function in a graph of torch's, beside its kernels;
            by default what a CPU of 2019 takes at best.
        limits: of the code that runs on it, by name: of a CPU `vector_bytes`, `vector_registers`,
            `fma_in_flight`; of a GPU `registers`, `registers_per_thread`, `shared_per_block`,
            `threads` and `blocks`, all but two of one multiprocessor.
        architecture: of a GPU, such as "sm_90".
    """

    name: str
    summary: str
    kind: str
    units: int
    levels: tuple[Level, ...]
    rates: tuple[Rate, ...]
    launch_seconds: float
    limits: Mapping[str, int] = field(default_factory=dict)
    architecture: str = ""
    call_seconds: float = 30e-6

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector register of a CPU."""
        return self.limits["vector_bytes"]

    @property
    def registers(self) -> int:
        """Vector registers of a CPU."""
        return self.limits["vector_registers"]

    def level(self, name: str) -> Level:
        """The level called `name`.

        Raises:
            KeyError: there is no such level.
        """
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(name)

    def rate(self, pipe: str, dtype: str = "f32") -> float | None:
        """Per second of all units, f32's when the table lacks `dtype`, None without the pipe."""
        table = {rate.dtype: rate.per_second for rate in self.rates if rate.pipe == pipe}
        return table.get(dtype, table.get("f32"))

    def peak(self, dtype: str = "f32") -> float:
        """FLOP/s of multiply-adds of all units."""
        found = self.rate("fma", dtype)
        assert found is not None, "every description has this pipe"
        return found

    def product_rate(self, dtype: str = "f32") -> float:
        """FLOP/s of matrix products at best: of tensor cores, where there are some for the type."""
        name = TENSOR_DTYPES.get(dtype, dtype)
        tensor = None if dtype == "f64" else self.rate("tensor", name)
        return tensor or self.peak(dtype)

    def lanes(self, element_bytes: int) -> int:
        """Elements of this size in one vector register."""
        return max(1, self.vector_bytes // element_bytes)

    def with_units(self, units: int) -> "Device":
        """The device with more or fewer units, and what belongs to each of them."""
        factor = units / self.units
        levels = tuple(
            replace(level, bandwidth=level.bandwidth * factor)
            if level.shared_by == "unit"
            else level
            for level in self.levels
        )
        rates = tuple(replace(rate, per_second=rate.per_second * factor) for rate in self.rates)
        return replace(self, units=units, levels=levels, rates=rates)
