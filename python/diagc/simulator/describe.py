"""From the run time's record of a finding to a sentence."""

from collections.abc import Sequence

from diagc.simulator.buffers import Buffer
from diagc.simulator.emitter import Site
from diagc.simulator.findings import ACCESSES, KINDS, Finding
from diagc.simulator.native import NativeFinding

__all__ = ["describe"]

_SHARED, _NOWHERE = -1, -2  # kShared, kNowhere in interface.h
_NOBODY, _EXITED = -1, -2  # kNobody, kExited


def describe(
    native: NativeFinding,
    kernel: str,
    sites: Sequence[Site],
    buffers: Sequence[Buffer],
    grid: Sequence[int],
) -> Finding:
    """Put a finding into words."""
    kind = KINDS[native.kind]
    other = native.other_site
    return Finding(
        kind,
        kernel,
        _MESSAGES[kind](_Facts(native, buffers, grid)),
        sites[native.site],
        sites[other] if 0 <= other < len(sites) else None,
        tuple(native.block),
        native.thread,
        native.count,
    )


class _Facts:
    """Parts of sentences."""

    def __init__(
        self, native: NativeFinding, buffers: Sequence[Buffer], grid: Sequence[int]
    ) -> None:
        self.native = native
        self.buffers = buffers
        self.grid = grid
        self.access = ACCESSES[native.access]
        self.other_access = ACCESSES[native.other_access]

    @property
    def place(self) -> str:
        index, offset = self.native.buffer, self.native.offset
        if index == _SHARED:
            return f"shared memory at byte {offset}"
        if index == _NOWHERE:
            return f"address {offset & (1 << 64) - 1:#x}, which is in no buffer"
        buffer = self.buffers[index]
        if not 0 <= offset < buffer.span:
            return f"'{buffer.name}' ({buffer.span} bytes) at byte {offset}"
        return f"'{buffer.name}' at byte {offset}{self.element(buffer)}"

    def element(self, buffer: Buffer) -> str:
        rest, indices = self.native.offset // buffer.array.itemsize, []
        strides = [stride // buffer.array.itemsize for stride in buffer.array.strides]
        for stride in strides:
            if stride == 0 or buffer.array.ndim == 0:
                return ""
            indices.append(rest // stride)
            rest %= stride
        return f", element {tuple(indices)}" if indices and rest == 0 else ""

    @property
    def bytes(self) -> str:
        return f"{self.native.size} byte{'s' if self.native.size != 1 else ''}"

    @property
    def other(self) -> str:
        thread, block = self.native.other_thread, self.native.other_block
        if block < 0:
            return f"thread {thread}"
        x, y, _ = self.grid
        return f"thread {thread} of block ({block % x}, {block // x % y}, {block // x // y})"


def _out_of_bounds(f: _Facts) -> str:
    return f"{f.access} of {f.bytes} out of bounds of {f.place}"


def _misaligned(f: _Facts) -> str:
    return f"{f.access} of {f.place} is not aligned to {f.bytes}"


def _unwritten(f: _Facts) -> str:
    return f"{f.access} of {f.bytes} of {f.place} that nothing has written"


def _race(f: _Facts) -> str:
    return f"{f.access} of {f.place} is not ordered with a {f.other_access} by {f.other}"


def _in_flight(f: _Facts) -> str:
    if f.access == "execution":
        way = "from" if f.other_access == "read" else "to"
        return f"the block ends while a copy in bulk of {f.other} {way} {f.place} is under way"
    return f"{f.access} of {f.place} while an asynchronous copy of {f.other} to it is under way"


def _source(f: _Facts) -> str:
    if f.native.buffer == _SHARED:
        return f"{f.access} of {f.place}, which an asynchronous product or store still reads"
    return f"{f.access} of {f.place} while an asynchronous copy of {f.other} from it is under way"


def _read_only(f: _Facts) -> str:
    return f"{f.access} of {f.place}, which the kernel may only read"


def _divergent(f: _Facts) -> str:
    if f.native.other_block == _EXITED:
        return f"waits for thread {f.native.other_thread}, which has returned"
    return f"waits for thread {f.native.other_thread}, which waits elsewhere"


def _deadlock(f: _Facts) -> str:
    if f.native.buffer == _SHARED:
        arrivals, missing = f.native.size >> 32, f.native.size & 0xFFFFFFFF
        return (
            f"waits for a phase of the mbarrier at byte {f.native.offset} that lacks {arrivals} "
            f"arrivals and {missing} bytes, and nothing else can run"
        )
    arrived, wanted = f.native.size >> 32, f.native.size & 0xFFFFFFFF
    return (
        f"waits at barrier {f.native.offset}, which {arrived} of {wanted} threads have reached, "
        "and nothing else can run"
    )


def _barrier_count(f: _Facts) -> str:
    if f.native.size == 0:
        return "arrives twice at a barrier that other threads have not reached"
    if f.native.buffer == _SHARED:
        return (
            f"the block ends when {f.native.size} of the {f.native.offset} threads of a barrier "
            "have arrived there"
        )
    return f"a barrier of {f.native.offset} threads is reached as one of {f.native.size}"


def _endless(f: _Facts) -> str:
    return "a loop does not end within the step limit"


def _inactive(f: _Facts) -> str:
    return f"a collective of the warp asks lane {f.native.offset}, which takes no part"


def _division(f: _Facts) -> str:
    return "integer division by zero"


def _copy_size(f: _Facts) -> str:
    return f"an asynchronous copy of {f.native.offset} bytes is told to read {f.native.size}"


def _accumulator(f: _Facts) -> str:
    return "uses a sum of wgmma, but not as a wait for the product has given it"


def _fence(f: _Facts) -> str:
    if f.native.buffer == _NOWHERE:
        return "a product without a wgmma.fence since the last wait for products"
    return (
        f"{f.access} of {f.place} by the asynchronous proxy, with no fence of it behind the "
        f"{f.other_access} by {f.other}"
    )


_MISUSES = (
    "is none that was initialised",
    "gets more arrivals than its phase expects",
    "is initialised or invalidated while threads wait for it",
    "is initialised for no arrivals",
)


def _mbarrier(f: _Facts) -> str:
    return f"the mbarrier at byte {f.native.offset} {_MISUSES[f.native.size]}"


_DESCRIPTORS = (
    "the address of a tensor map is none of a parameter",
    "a copy has another number of coordinates than its tensor map has dimensions",
    "the simulator knows no matrix descriptors without a swizzle",
    "a matrix descriptor has a base offset, which the simulator does not know",
    "a matrix begins inside of the pattern of its swizzle, and its descriptor has no base offset",
)


def _descriptor(f: _Facts) -> str:
    return _DESCRIPTORS[f.native.offset]


_MESSAGES = {
    "out-of-bounds": _out_of_bounds,
    "misaligned": _misaligned,
    "unwritten-read": _unwritten,
    "race": _race,
    "in-flight": _in_flight,
    "source-overwritten": _source,
    "read-only": _read_only,
    "divergent": _divergent,
    "deadlock": _deadlock,
    "barrier-count": _barrier_count,
    "endless": _endless,
    "inactive-lane": _inactive,
    "division-by-zero": _division,
    "copy-size": _copy_size,
    "accumulator": _accumulator,
    "fence": _fence,
    "mbarrier": _mbarrier,
    "descriptor": _descriptor,
}
