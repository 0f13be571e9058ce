"""Arrays in global memory as a block sees them: addresses, and elements in the layout of tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from diagc.mlir import arith, ir, llvm
from diagc.runtime.signature import DTYPES
from diagc.targets.nvptx.tiles.emitter import Index
from diagc.targets.nvptx.tiles.frame import Frame
from diagc.targets.nvptx.tiles.layouts import Slot, Tile

__all__ = ["Memory", "register_type"]


def register_type(frame: Frame, dtype: str) -> ir.Type:
    """The type that elements of a dtype have in registers; narrow floats are f32 there."""
    if dtype in ("f8E4M3FN", "f16", "bf16", "f32"):
        return frame.code.f32
    if dtype in ("index", "i32"):
        return frame.code.i32
    return ir.Type.parse(dtype)


@dataclass(eq=False)
class Memory:
    """An array argument or result.

    Args:
        frame: of the block.
        pointer: to element (0, ..., 0).
        dtype: key of `DTYPES`.
        labels: its axes.
        strides: in elements, i64 or 1, by label.
    """

    frame: Frame
    pointer: ir.Value
    dtype: str
    labels: tuple[str, ...]
    strides: Mapping[str, Index]
    root: "Memory | None" = None
    """The array that this one renames axes of."""
    _base: list[ir.Value] = field(default_factory=list)
    _aligned: dict[tuple[tuple[str, ...], int], ir.Value] = field(default_factory=dict)
    _narrow: list[Tile] = field(default_factory=list)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element in memory."""
        return DTYPES[self.dtype]

    @property
    def local_labels(self) -> tuple[str, ...]:
        """The labels that are not split by the grid."""
        return tuple(label for label in self.labels if label not in self.frame.grid)

    def renamed(self, names: Mapping[str, str]) -> "Memory":
        """The same array under other labels."""
        return replace(
            self,
            labels=tuple(names.get(label, label) for label in self.labels),
            strides={names.get(label, label): s for label, s in self.strides.items()},
            root=self.root or self,
            _narrow=[],
        )

    def at(self, label: str, position: int) -> "Memory":
        """The part at a position of an axis; all of it where it lacks the axis."""
        if label not in self.labels:
            return self
        with self.frame.code.within(self.frame.scope):
            start = self.frame.code.address(self.base, self.offset(label, position))
        labels = tuple(x for x in self.labels if x != label)
        return replace(self, labels=labels, root=None, _base=[start], _aligned={}, _narrow=[])

    @property
    def base(self) -> ir.Value:
        """Pointer to the first element at the block's position of the grid."""
        root = self.root or self
        if not root._base:
            code = self.frame.code
            with code.within(self.frame.scope):
                pointer = root.pointer
                for label in root.labels:
                    if label in self.frame.grid:
                        offset = root.offset(label, self.frame.grid[label])
                        pointer = code.address(pointer, offset)
                root._base.append(pointer)
        return root._base[0]

    def offset(self, label: str, position: Index) -> ir.Value:
        """Bytes (i64) from position 0 to another along one axis."""
        code, stride = self.frame.code, self.strides[label]
        offset = code.wide(position)
        if not isinstance(stride, int):
            offset = arith.muli(offset, stride)
        return arith.muli(offset, code.scalar(code.i64, self.element_bytes))

    def is_unit(self, label: str) -> bool:
        """Whether neighbours along an axis are known to be neighbours in memory."""
        stride = self.strides[label]
        return isinstance(stride, int) and stride == 1

    def aligned(self, lines: Sequence[str], size: int) -> ir.Value:
        """Whether (i1, the same in the block) all lines begin at multiples of `size` bytes.

        `lines` are the labels that count lines.
        """
        root = self.root or self
        code = self.frame.code
        key = tuple(lines), size
        if key not in root._aligned:
            with code.within(self.frame.scope):
                bits = llvm.PtrToIntOp(code.i64, self.base).result
                for label in lines:
                    bits = arith.ori(bits, self.offset(label, 1))
                rest = arith.andi(bits, code.scalar(code.i64, size - 1))
                zero = code.scalar(code.i64, 0)
                root._aligned[key] = arith.cmpi(arith.CmpIPredicate.eq, rest, zero)
        return root._aligned[key]

    # -- elements --------------------------------------------------------------------------------
    def tile(self) -> Tile:
        """Its elements in registers, at the positions of rows and columns.

        Positions that do not exist read the last one that does. What has no columns takes few
        registers: it is read once, in front of all loops.
        """
        columns = [label for label in self.local_labels if label not in self.frame.rows]
        if columns:
            return self._tile(columns)
        return self.fixed_tile()

    def fixed_tile(self) -> Tile:
        """The same, read once, in front of all loops, where no label of it streams."""
        if not self._narrow:
            columns = [label for label in self.local_labels if label not in self.frame.rows]
            with self.frame.code.within(self.frame.scope):
                self._narrow.append(self._tile(columns))
        return self._narrow[0]

    def _tile(self, columns: Sequence[str]) -> Tile:
        rows = len(columns) < len(self.local_labels)
        column = columns[0] if columns else None
        element = register_type(self.frame, self.dtype)
        return Tile(self.frame.code, rows, column, element, self._element)

    def _element(self, slot: Slot) -> ir.Value:
        code, pointer = self.frame.code, self.base
        for label in self.local_labels:
            position = self.frame.position(label, slot)
            if self.frame.exists(label, slot) is not None:
                last = code.sub(self.frame.sizes[label], 1)
                position = code.min(position, last)
            pointer = code.address(pointer, self.offset(label, position))
        return self.read(pointer)

    def read(self, pointer: ir.Value) -> ir.Value:
        """Load an element into its register type."""
        code, size = self.frame.code, self.element_bytes
        stored = {"i1": "i8", "index": "i64", "f8E4M3FN": "i8"}.get(self.dtype, self.dtype)
        value = code.load(ir.Type.parse(stored), pointer, size)
        if self.dtype == "f8E4M3FN":
            return arith.extf(code.f32, code.bitcast(ir.F16Type.get(), code.float8_half(value)))
        if self.dtype in ("f16", "bf16"):
            return arith.extf(code.f32, value)
        if self.dtype == "i1":
            return arith.cmpi(arith.CmpIPredicate.ne, value, code.scalar(code.i8, 0))
        return arith.trunci(code.i32, value) if self.dtype == "index" else value

    def write(self, value: ir.Value, pointer: ir.Value) -> None:
        """Store an element from its register type."""
        code, size = self.frame.code, self.element_bytes
        if self.dtype in ("f16", "bf16"):
            value = arith.truncf(ir.Type.parse(self.dtype), value)
        elif self.dtype == "i1":
            value = arith.extui(code.i8, value)
        elif self.dtype == "index":
            value = arith.extsi(code.i64, value)
        code.store(value, pointer, size)
