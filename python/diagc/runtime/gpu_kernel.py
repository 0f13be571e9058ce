"""A compiled GPU kernel as plain data: launches, their grids, scratch memory, PTX and cubin.

Every launch takes the same parameters, in this order:

1. for every wire of the signature (arguments, then results): a 64-bit pointer to element (0, …, 0);
2. for every workspace: a 64-bit pointer;
3. for every axis of the signature whose size is None: the size, i32; then, where blocks may share a
   stream (`sharing`), the number of parts;
4. for every wire, for every label in order: the stride in elements, i64; the last label of a wire
   with `unit_stride` has none;
5. of `bulk_launches` only, for every tensor map: its 128 bytes, by value.

`i1` is a byte that holds 0 or 1, `index` is i64. A pointer is aligned to its element only; kernels
ask at run time whether it is aligned to more. Sizes are below 2**31 - 2**20, so that no
position in a last tile exceeds an i32.

This module needs nothing but the standard library: packages are loaded without a compiler.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diagc.errors import CacheError, InternalError, LaunchError
from diagc.runtime.factors import (
    Factor,
    check_factor,
    element_count,
    factor_labels,
    read_factors,
)
from diagc.runtime.sharing import PARTS, Sharing
from diagc.runtime.signature import DTYPES, KernelSignature, Wire

__all__ = [
    "FORMAT_VERSION",
    "GRID_LIMITS",
    "MAP_ALIGNMENT",
    "GpuKernel",
    "GpuLaunch",
    "TensorMap",
    "Workspace",
    "grid_of",
    "planned_launches",
    "planned_sizes",
    "takes_tensor_maps",
]

FORMAT_VERSION = 3
_READABLE = (1, 2, FORMAT_VERSION)  # 1 has no shared launches, 2 none that add states

GRID_LIMITS = (2**31 - 1, 65535, 65535)
MAX_THREADS = 1024
MAP_ALIGNMENT = 16
_MOST_POSITIONS, _LONGEST_STRIDE = 2**32, 2**40
MAX_DIMENSIONS, MAX_BOX, SWIZZLES = 5, 256, (0, 32, 64, 128)


@dataclass(frozen=True)
class GpuLaunch:
    """One start of a function of the module; launches of a kernel run in order on one stream.

    Args:
        symbol: the function.
        threads: per block, along x.
        shared_bytes: dynamic shared memory of a block.
        grid: blocks along x, y, z (one to three entries), each a product; an empty one is 1.
        blocks_per_sm: how many blocks the schedule wants on one multiprocessor at a time.
        stays: whether blocks take several places of the grid, which is along x, each: then no more
            of them are started than there is room for at a time.
        least_parts: into how many parts a stream must be split for it to be started at all.
    """

    symbol: str
    threads: int
    shared_bytes: int
    grid: tuple[tuple[Factor, ...], ...]
    blocks_per_sm: int = 1
    stays: bool = False
    least_parts: int = 0

    def __post_init__(self) -> None:
        """Check what holds for every device."""
        object.__setattr__(self, "grid", tuple(tuple(entry) for entry in self.grid))
        if not 1 <= self.threads <= MAX_THREADS:
            raise InternalError(f"launch '{self.symbol}' has {self.threads} threads per block")
        flat = len(self.grid) == 1 or not self.stays
        if (
            self.shared_bytes < 0
            or self.blocks_per_sm < 1
            or self.least_parts < 0
            or not 1 <= len(self.grid) <= 3
            or not flat
        ):
            raise InternalError(f"launch '{self.symbol}' is malformed: {self}")
        for factor in (factor for entry in self.grid for factor in entry):
            check_factor(factor)


@dataclass(frozen=True)
class Workspace:
    """Scratch global memory that the launches of a kernel share.

    Args:
        dtype: element type, a key of `DTYPES`.
        size: number of elements, a product.
    """

    dtype: str
    size: tuple[Factor, ...]

    def __post_init__(self) -> None:
        """Check the dtype and the factors."""
        object.__setattr__(self, "size", tuple(self.size))
        if self.dtype not in DTYPES:
            raise InternalError(f"a workspace has the unknown dtype '{self.dtype}'")
        for factor in self.size:
            check_factor(factor)


@dataclass(frozen=True)
class TensorMap:
    """A description of an array by which a GPU copies boxes of it, `cuTensorMapEncodeTiled`.

    Args:
        wire: number of the argument or, behind these, of the result; its last axis is the
            innermost dimension.
        box: positions along each axis that a copy takes.
        swizzle: bytes of a line in shared memory whose chunks are swizzled: 0, 32, 64 or 128.
    """

    wire: int
    box: tuple[int, ...]
    swizzle: int

    def __post_init__(self) -> None:
        """Check what the driver would refuse, whatever the array."""
        object.__setattr__(self, "box", tuple(self.box))
        right = 1 <= len(self.box) <= MAX_DIMENSIONS and all(1 <= n <= MAX_BOX for n in self.box)
        if not right or self.swizzle not in SWIZZLES or self.wire < 0:
            raise InternalError(f"a tensor map is malformed: {self}")


@dataclass(frozen=True)
class GpuKernel:
    """One kernel for one architecture; hashable, and the same after `from_json(to_json())`.

    Args:
        signature: its wires and axes.
        launches: in order.
        workspaces: in the order of the parameters.
        arch: such as "sm_80".
        ptx: text of the module that holds all launches.
        cubin: the same, assembled for `arch`; None where no assembler was at hand.
        tensor_maps: parameters of `bulk_launches`, in order.
        bulk_launches: what runs in place of `launches` on arrays that tensor maps can describe
            (`takes_tensor_maps`); empty if nothing copies by tensor maps.
        sharing: in how many parts blocks share the stream, where they may.
        shared_launches: what runs in place of all others where there are two parts or more; empty
            where these share the stream themselves, in however many parts.
    """

    signature: KernelSignature
    launches: tuple[GpuLaunch, ...]
    workspaces: tuple[Workspace, ...]
    arch: str
    ptx: str
    cubin: bytes | None = None
    tensor_maps: tuple[TensorMap, ...] = ()
    bulk_launches: tuple[GpuLaunch, ...] = ()
    sharing: Sharing | None = None
    shared_launches: tuple[GpuLaunch, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is a launch, and that every factor names an axis of the signature."""
        object.__setattr__(self, "launches", tuple(self.launches))
        object.__setattr__(self, "workspaces", tuple(self.workspaces))
        object.__setattr__(self, "tensor_maps", tuple(self.tensor_maps))
        object.__setattr__(self, "bulk_launches", tuple(self.bulk_launches))
        object.__setattr__(self, "shared_launches", tuple(self.shared_launches))
        if not self.launches:
            raise InternalError(f"kernel '{self.signature.symbol}' has no launch")
        products = [entry for launch in self.all_launches for entry in launch.grid]
        products += [workspace.size for workspace in self.workspaces]
        known = set(self.signature.static_sizes)
        if self.sharing is not None:
            products += [(self.sharing.axis, *self.sharing.blocks)]
            known.add(PARTS)
        unknown = {label for entry in products for label in factor_labels(entry)} - known
        if unknown:
            raise InternalError(f"grids of '{self.signature.symbol}' name {sorted(unknown)}")
        if self.sharing is None and (
            self.shared_launches or any(launch.least_parts for launch in self.all_launches)
        ):
            raise InternalError(f"'{self.signature.symbol}' has launches of parts, and no sharing")
        for item in self.tensor_maps:
            wires = self.signature.wires
            if item.wire >= len(wires) or not _fits_lines(item, wires[item.wire]):
                raise InternalError(f"'{self.signature.symbol}' has the wrong tensor map {item}")

    @property
    def all_launches(self) -> tuple[GpuLaunch, ...]:
        """Of all forms: `launches`, `bulk_launches`, `shared_launches`."""
        return *self.launches, *self.bulk_launches, *self.shared_launches

    @cached_property
    def dynamic_axes(self) -> tuple[str, ...]:
        """Labels whose sizes are parameters, in order; last `PARTS` where there may be some."""
        found = [axis.label for axis in self.signature.axes if axis.size is None]
        return (*found, PARTS) if self.sharing is not None else tuple(found)

    @cached_property
    def stride_parameters(self) -> tuple[tuple[int, str], ...]:
        """(wire number, label) of every stride that is a parameter, in order."""
        return tuple(
            (number, label)
            for number, wire in enumerate(self.signature.wires)
            for label in (wire.labels[:-1] if wire.unit_stride else wire.labels)
        )

    def to_json(self) -> str:
        """Give a JSON text that depends on nothing but the kernel."""
        fields = {
            "version": FORMAT_VERSION,
            "signature": self.signature.to_json(),
            "launches": [vars(launch) for launch in self.launches],
            "bulk_launches": [vars(launch) for launch in self.bulk_launches],
            "shared_launches": [vars(launch) for launch in self.shared_launches],
            "sharing": None if self.sharing is None else vars(self.sharing),
            "workspaces": [vars(workspace) for workspace in self.workspaces],
            "arch": self.arch,
            "ptx": self.ptx,
            "tensor_maps": [vars(item) for item in self.tensor_maps],
            "cubin": None if self.cubin is None else b64encode(self.cubin).decode(),
        }
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "GpuKernel":
        """Read what `to_json` wrote.

        Raises:
            CacheError: the text is not a kernel of this version.
        """
        try:
            fields = json.loads(text)
            if fields["version"] not in _READABLE:
                raise ValueError(f"version {fields['version']}")
            return _read(fields)
        except (ValueError, TypeError, KeyError, AttributeError, Base64Error) as error:
            raise CacheError(f"a GPU kernel cannot be read: {error}") from None
        except InternalError as error:
            raise CacheError(f"a GPU kernel cannot be read: {error.message}") from None


def grid_of(
    launch: GpuLaunch, sizes: Mapping[str, int], multiprocessors: int | None = None
) -> tuple[int, int, int]:
    """Blocks along x, y, z; any of them is 0 when there is nothing to do.

    Args:
        launch: what is started.
        sizes: of every axis.
        multiprocessors: of the device; None starts blocks that stay for every place of the grid.

    Raises:
        LaunchError: more blocks than a GPU takes along one dimension.
    """
    counts = [element_count(entry, sizes) for entry in launch.grid]
    counts += [1] * (3 - len(counts))
    for count, limit, entry in zip(counts, GRID_LIMITS, launch.grid, strict=False):
        if count > limit:
            axes = ", ".join(f"{label}={sizes[label]}" for label in factor_labels(entry))
            raise LaunchError(
                f"kernel '{launch.symbol}' would need too many blocks for {axes}",
                expected=f"at most {limit}",
                found=count,
                remedy="split the batch",
            )
    if launch.stays and multiprocessors is not None:
        counts[0] = min(counts[0], launch.blocks_per_sm * multiprocessors)
    return counts[0], counts[1], counts[2]


def planned_sizes(
    kernel: GpuKernel, sizes: Mapping[str, int], multiprocessors: int | None = None
) -> dict[str, int]:
    """Sizes of all axes, and the number of parts where blocks may share a stream.

    That is 0 where another form runs in place of shared launches: then scratch memory is empty.
    """
    if kernel.sharing is None:
        return dict(sizes)
    parts = kernel.sharing.parts(sizes, multiprocessors)
    return {**sizes, PARTS: 0 if kernel.shared_launches and parts < 2 else parts}


def planned_launches(
    kernel: GpuKernel, sizes: Mapping[str, int], *, mapped: bool
) -> tuple[GpuLaunch, ...]:
    """What runs for sizes that `planned_sizes` gave.

    Args:
        kernel: with one form or several.
        sizes: of all axes, and the number of parts.
        mapped: whether tensor maps can describe the arrays.
    """
    if kernel.shared_launches and sizes[PARTS]:
        found = kernel.shared_launches
    else:
        found = kernel.bulk_launches if mapped else kernel.launches
    return tuple(launch for launch in found if launch.least_parts <= sizes.get(PARTS, 0))


def takes_tensor_maps(
    kernel: GpuKernel, sizes: Mapping[str, int], strides: Sequence[Sequence[int]]
) -> bool:
    """Whether tensor maps can describe arrays that begin at multiples of `MAP_ALIGNMENT` bytes.

    CUDA driver API, cuTensorMapEncodeTiled: sizes from 1 to 2**32, strides in bytes a multiple of
    16 and below 2**40, neighbours along the last axis neighbours in memory.

    Args:
        kernel: with `tensor_maps`.
        sizes: of every axis.
        strides: of every wire, in elements.
    """
    return bool(kernel.bulk_launches) and all(
        _is_describable(kernel.signature.wires[item.wire], sizes, strides[item.wire])
        for item in kernel.tensor_maps
    )


def _is_describable(wire: Wire, sizes: Mapping[str, int], strides: Sequence[int]) -> bool:
    width = DTYPES[wire.dtype]
    outer = [width * stride for stride in strides[:-1]]
    return (
        all(1 <= sizes[label] <= _MOST_POSITIONS for label in wire.labels)
        and strides[-1] == 1
        and all(0 < step < _LONGEST_STRIDE and step % MAP_ALIGNMENT == 0 for step in outer)
    )


def _fits_lines(item: TensorMap, wire: Wire) -> bool:
    """Whether a box has all axes, and lines that the driver takes: whole chunks, one swizzle."""
    line = item.box[-1] * DTYPES[wire.dtype]
    whole = line % MAP_ALIGNMENT == 0 and (item.swizzle == 0 or line <= item.swizzle)
    return whole and len(item.box) == len(wire.labels)


def _read_launches(items: Iterable[Mapping[str, Any]]) -> tuple[GpuLaunch, ...]:
    return tuple(
        GpuLaunch(**{**launch, "grid": tuple(read_factors(entry) for entry in launch["grid"])})
        for launch in items
    )


def _read_sharing(fields: Mapping[str, Any] | None) -> Sharing | None:
    if fields is None:
        return None
    return Sharing(**{**fields, "blocks": read_factors(fields["blocks"])})


def _read(fields: Mapping[str, Any]) -> GpuKernel:
    workspaces = [
        Workspace(str(entry["dtype"]), read_factors(entry["size"]))
        for entry in fields["workspaces"]
    ]
    cubin = None if fields["cubin"] is None else b64decode(fields["cubin"], validate=True)
    return GpuKernel(
        KernelSignature.from_json(fields["signature"]),
        _read_launches(fields["launches"]),
        tuple(workspaces),
        str(fields["arch"]),
        str(fields["ptx"]),
        cubin,
        tuple(TensorMap(**item) for item in fields.get("tensor_maps", ())),
        _read_launches(fields.get("bulk_launches", ())),
        _read_sharing(fields.get("sharing")),
        _read_launches(fields.get("shared_launches", ())),
    )
