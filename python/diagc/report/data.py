"""What a compilation did, as plain data: kernels, rewrites, and what stayed outside and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "EstimateReport",
    "GradientReport",
    "KernelReport",
    "LevelReport",
    "Note",
    "OutsideReport",
    "RankedSchedule",
    "Report",
    "StreamReport",
]


@dataclass(frozen=True)
class Note:
    """A rewrite that was done or declined.

    Args:
        op: name of the op that it is about.
        text: what was done, or why not.
        location: the user's line, when it is known; the first of several.
        count: how many ops it is about.
    """

    op: str
    text: str
    location: str | None = None
    count: int = 1


@dataclass(frozen=True)
class StreamReport:
    """A derived stream: its axis, its law line by line, what may be done with its states."""

    axis: str
    law: tuple[str, ...]
    properties: tuple[str, ...]


@dataclass(frozen=True)
class LevelReport:
    """What one call does to a memory level, as predicted.

    Args:
        name: of the level.
        read: H, bytes that faster levels get of it; of the fastest one None: that is for registers.
        written: H, bytes that they give to it.
        held: M, bytes that it should hold at once; None where a size is open.
        capacity: bytes that it has.
        seconds: that its bandwidth needs for H.
    """

    name: str
    read: int | None
    written: int | None
    held: int | None
    capacity: int
    seconds: float


@dataclass(frozen=True)
class EstimateReport:
    """What one call needs of a device at least, as predicted.

    Args:
        device: name of its description.
        seconds: T, the launch and what the busiest resource takes.
        bound: that resource: a pipe, a level, or "launch".
        intensity: FLOPs per byte of main memory.
        pipes: seconds of "tensor", "fma", "special"; a CPU's are all one, "fma"; of a GPU also
            "latency" and "turns": waits for memory, and warps too few to keep pipes busy at a time.
        levels: of memory, the fastest first.
        assumed: sizes that were taken for axes whose size is open until the program runs.
    """

    device: str
    seconds: float
    bound: str
    intensity: float
    pipes: Mapping[str, float]
    levels: tuple[LevelReport, ...]
    assumed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RankedSchedule:
    """One of the schedules that a kernel might have.

    Args:
        text: in words.
        seconds: of one call, as predicted.
        bound: the resource that takes longest.
    """

    text: str
    seconds: float
    bound: str


SWITCHED_OFF = "switched off by kernels_off or DIAGC_KERNELS_OFF"
"""How the reason begins why a kernel is interpreted that the user switched off."""


@dataclass
class KernelReport:
    """One kernel.

    Args:
        name: symbol of the kernel.
        target: what it was compiled for.
        calls: how often the program launches it.
        streams: those inside.
        ops: number of ops of each kind.
        origins: which ops of the user's program it came from.
        schedule: as chosen.
        cache: "hit", "miss", "memory" (used before in this process) or "none" (not cached).
        seconds: time to compile or to load it.
        flops: at the sizes of the first call, when the cost model knows them.
        bytes: that must cross the memory boundary, likewise.
        read_bytes: that a call reads of a GPU's global memory, as predicted from the schedule; None
            where nothing is predicted, or calls have different sizes.
        written_bytes: likewise.
        fall_back: why the kernel is not code of the target, or None.
        estimate: of the cost model at the sizes of the first call; None where they are open.
        ranking: schedules that the cost model compared, the chosen one first; the first few, at the
            sizes of the program; empty where there was no choice.
        measured_seconds: of one call on this machine, where that was asked for.
        forms: of the code, and when each runs; empty where there is one.
    """

    name: str
    target: str
    calls: int
    streams: tuple[StreamReport, ...]
    ops: Mapping[str, int]
    origins: tuple[str, ...]
    schedule: Mapping[str, Any]
    cache: str
    seconds: float
    flops: int | None = None
    bytes: int | None = None
    fall_back: str | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    estimate: EstimateReport | None = None
    ranking: tuple[RankedSchedule, ...] = ()
    measured_seconds: float | None = None
    forms: tuple[str, ...] = ()

    @property
    def is_off(self) -> bool:
        """Whether the user switched it off."""
        return self.fall_back is not None and self.fall_back.startswith(SWITCHED_OFF)


@dataclass(frozen=True)
class OutsideReport:
    """Work of the program that is in no kernel.

    Args:
        what: the op: "diag.contract" for the library's matrix products, else the host's name.
        calls: how often.
        reason: why.
        places: the user's lines, when they are known.
    """

    what: str
    calls: int
    reason: str
    places: tuple[str, ...] = ()


@dataclass
class Report:
    """All that explain() shows.

    Args:
        name: of the user's function or module.
        target: name of the target.
        kernels: in the order of their first calls.
        outside: what is in no kernel.
        done: rewrites.
        declined: rewrites that were not made, with reasons.
        seconds: time of each stage of the compilation.
        gradients: by those inputs that a backward pass has asked for.
    """

    name: str
    target: str
    kernels: list[KernelReport] = field(default_factory=list)
    outside: list[OutsideReport] = field(default_factory=list)
    done: list[Note] = field(default_factory=list)
    declined: list[Note] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    gradients: "list[GradientReport]" = field(default_factory=list)

    @property
    def fall_back(self) -> bool:
        """Whether anything that belongs into a kernel is run by other means."""
        return any(kernel.fall_back for kernel in self.kernels)

    def to_json(self) -> dict[str, Any]:
        """Give a dictionary of plain data, for `json.dumps`."""
        return {"version": 1, **asdict(self), "fall_back": self.fall_back}


@dataclass(frozen=True)
class GradientReport:
    """How gradients are computed.

    Args:
        by: names of the inputs.
        report: of the program that computes them; None where the function runs in eager mode.
        reason: why it does.
    """

    by: tuple[str, ...]
    report: Report | None
    reason: str = ""
