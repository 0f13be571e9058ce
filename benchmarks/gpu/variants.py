"""The matrix of kernels that are built, checked and timed: sizes, dtypes, peers, gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gpu import functions as f
from gpu.functions import BACKENDS, Function, sdpa

__all__ = ["MATRIX", "Gate", "Variant", "attention"]

Tensor = torch.Tensor
Shapes = Sequence[tuple[int, ...]]

_SLICES = 64
_DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


@dataclass(frozen=True)
class Gate:
    """What must be reached: a ratio of times to a peer, or a share of what this run measured.

    Args:
        peer: name of a contender, or "copy" or "matmul": bandwidth and rate as measured.
        ratio: least value.
        better_of: names of contenders, the fastest of which counts; then `peer` is what they are.
    """

    peer: str
    ratio: float
    better_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One package.

    Args:
        name: of the package.
        function: what is compiled; the peer "eager", and by default the reference, too.
        shapes: of the arguments.
        small: shapes for machines without a GPU.
        dtype: of the arguments; a bool argument is one whose number is in `masks`.
        peers: torch's other ways to the same (or, named so, to another) result.
        compare: whether torch.compile takes part; it takes seconds.
        options: of the compiler.
        shared: arguments that have no first axis to slice along, such as weights.
        whole: whether results need all of the first axis at once.
        masks: arguments that are boolean.
        empty_rows: whether every third row of a mask keeps nothing; the results of rows without
            keys are then 0, where eager's are NaN.
        operations: multiplications and additions of the best known algorithm; None when bandwidth
            is the limit.
        gates: what must be reached on a GPU.
        package: name of the package, where several share one; default the variant's own.
        is_open: whether the package's sizes are open, so that other shapes may share it.
        other: shapes of another call of the same package, so that just what differs is open.
        programs: at most, in the package; with several, the fastest is measured and kept first.
        forward: of `function`, where that gives its gradients: the package then holds the program
            of gradients that the compiler derives from it.
        checked: so many slices along the first axis are compared with float64, 0 for all.
    """

    name: str
    function: Function
    shapes: Shapes
    small: Shapes
    dtype: str
    peers: Mapping[str, Function] = field(default_factory=dict)
    compare: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[int, ...] = ()
    whole: bool = False
    masks: tuple[int, ...] = ()
    empty_rows: bool = False
    operations: int | None = None
    gates: tuple[Gate, ...] = ()
    package: str = ""
    is_open: bool = False
    other: Shapes = ()
    programs: int = 1
    forward: Function | None = None
    checked: int = 0

    @property
    def package_name(self) -> str:
        """Of the package that is built and loaded for it."""
        return self.package or self.name

    def few(self, tensors: Sequence[Tensor], arguments: bool = True) -> list[Tensor]:
        """The slices of arguments, or of results, that are compared."""
        if not self.checked:
            return list(tensors)
        count = tensors[0].shape[0]
        last = max(self.checked - 1, 1)
        kept = sorted({i * (count - 1) // last for i in range(self.checked)})
        shared = self.shared if arguments else ()
        return [t if number in shared else t[kept] for number, t in enumerate(tensors)]

    def inputs(self, seed: int, device: str, small: bool) -> tuple[Tensor, ...]:
        """Fresh random arguments."""
        generator = torch.Generator(device).manual_seed(seed)
        return tuple(
            self._argument(number, shape, generator, device)
            for number, shape in enumerate(self.small if small else self.shapes)
        )

    def _argument(
        self, number: int, shape: tuple[int, ...], generator: torch.Generator, device: str
    ) -> Tensor:
        values = torch.randn(shape, generator=generator, device=device)
        if number in self.masks:
            keep = values > 0
            keep[..., 0] = True
            if self.empty_rows:
                keep[..., ::3, :] = False
            return keep
        return values.to(_DTYPES[self.dtype])

    def eager(self, *inputs: Tensor) -> list[Tensor]:
        """What eager torch gives, for comparison; 0 in rows without keys."""
        results = _results(self.function(*inputs))
        return [t.nan_to_num(nan=0.0) for t in results] if self.empty_rows else results

    def reference(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The results in float64, slice by slice along the first axis, so that memory suffices."""
        wide = [t.double() if t.is_floating_point() else t for t in inputs]
        count = len(wide[0].chunk(1 if self.whole else _SLICES))
        slices = [
            [t] * count if number in self.shared else t.chunk(count)
            for number, t in enumerate(wide)
        ]
        pieces = [self.eager(*part) for part in zip(*slices, strict=True)]
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def _results(value: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


# ---- attention -----------------------------------------------------------------------------------


def attention(
    name: str,
    function: Function,
    dtype: str = "bf16",
    *,
    heads: int = 32,
    rows: int = 4096,
    keys: int = 4096,
    d: int = 128,
    e: int | None = None,
    group: int | None = None,
    share: float = 1.0,
    peers: Mapping[str, Function] | None = None,
) -> Variant:
    """A variant of attention; `share` of the scores has to be computed."""

    def shapes(heads: int, rows: int, keys: int) -> Shapes:
        q = (heads, rows, d) if group is None else (heads, group, rows, d)
        return (q, (heads, keys, d), (heads, keys, e or d))

    return Variant(
        f"{name}-{dtype}-d{d}",
        function,
        shapes(heads, rows, keys),
        shapes(2, min(rows, 150), min(keys, 150)),
        dtype,
        peers or {},
        operations=int(2 * heads * (group or 1) * rows * keys * (d + (e or d)) * share),
    )


def _sdpa(is_causal: bool = False, names: Sequence[str] = tuple(BACKENDS)) -> dict[str, Function]:
    return {name: sdpa(name, is_causal) for name in names}


_FAST = ("sdpa flash", "sdpa cudnn")
_WIDE = ("sdpa efficient", "sdpa math")
_FLASH = (Gate("sdpa flash", 1.0),)


def _softmax_variants() -> list[Variant]:
    gated = [attention("softmax", f.softmax, t, peers=_sdpa()) for t in ("bf16", "f16")]
    f32: dict[str, Any] = {"heads": 16, "rows": 2048, "keys": 2048}
    return [
        *(replace(variant, gates=_FLASH) for variant in gated),
        *(attention("softmax", f.softmax, d=d, peers=_sdpa()) for d in (32, 64, 256)),
        *(attention("softmax", f.softmax, "f32", d=d, peers=_sdpa(names=_WIDE), **f32)
          for d in (64, 128)),
        *(attention("causal", f.causal, d=d, peers=_sdpa(True), share=0.5) for d in (64, 128)),
        attention("window", f.window, share=f.WINDOW / 4096),
        replace(attention("softcap", f.capped), compare=True),
        attention("logsumexp", f.with_statistic),
        attention("wide-values", f.softmax, d=64, e=128, peers=_sdpa(names=("sdpa math",))),
        attention(
            "grouped", f.grouped, heads=8, group=4, share=0.5, peers=_sdpa(True, _FAST)
        ),
        replace(
            attention("decode", f.decode, heads=64, group=4, rows=1, keys=8192), operations=None
        ),
    ]  # fmt: skip


def _masked_variants() -> list[Variant]:
    bias = attention("bias", f.biased, d=64)
    masked = attention("masked", f.masked, d=64)
    return [
        replace(
            bias,
            shapes=(*bias.shapes, (4096, 4096)),
            small=(*bias.small, (150, 150)),
            shared=(3,),
            compare=True,
        ),
        replace(
            masked,
            shapes=(*masked.shapes, (32, 1, 4096)),
            small=(*masked.small, (2, 1, 150)),
            masks=(3,),
        ),
        replace(
            attention("masked-rows", f.masked, d=64),
            shapes=(*masked.shapes, (4096, 4096)),
            small=(*masked.small, (150, 150)),
            shared=(3,),
            masks=(3,),
            empty_rows=True,
        ),
        replace(
            attention("bottom-right", f.bottom_right, keys=2048, d=64, share=0.25),
            small=((2, 150, 64), (2, 90, 64), (2, 90, 64)),
            empty_rows=True,
        ),
    ]


def _other_normalizers() -> list[Variant]:
    exact = {"reassociate": "off"}
    long: dict[str, Any] = {"heads": 16, "rows": 16384, "keys": 16384, "d": 64}
    named = {f"{name} (softmax)": function for name, function in _sdpa(names=_FAST).items()}
    spherical = attention("spherical", f.spherical, peers=named, **long)
    linear = attention("linear", f.linear, **long)
    flash = "sdpa flash (softmax)"
    return [
        attention("l1", f.absolute),
        attention("l1", f.absolute, d=64),
        replace(attention("relu-sum", f.relu_sum), compare=True),
        attention("sigmoid", f.sigmoid),
        replace(attention("spherical-streamed", f.spherical), options=exact),
        replace(attention("spherical-streamed", f.spherical, d=64), options=exact, compare=True),
        attention("spherical-causal", f.spherical_causal, d=64, share=0.5),
        replace(
            spherical,
            operations=None,
            gates=(Gate("eager", 3.6), Gate(flash, 10.0), Gate("copy", 0.8)),
        ),
        replace(linear, operations=None, gates=(Gate("copy", 0.8),)),
    ]


def _tails() -> list[Variant]:
    """Sizes that fill no tile: not for speed."""
    odd: dict[str, Any] = {"heads": 3, "rows": 197, "keys": 333}
    return [
        *(attention(f"tail-{name}", function, d=d, **odd)
          for name, function in (("softmax", f.softmax), ("causal", f.causal), ("l1", f.absolute))
          for d in (16, 80, 128)),
        attention("tail-softmax", f.softmax, "f32", d=48, e=40, **odd),
        attention("tail-softmax", f.softmax, "f16", d=96, **odd),
        attention("tail-spherical", f.spherical, d=64, **odd),
    ]  # fmt: skip


# ---- on warpgroups: the same functions, for Hopper alone ----------------------------------------

WARPGROUPS = "nvptx:sm_90a"


def _warpgroup_variants(variants: Sequence[Variant]) -> list[Variant]:
    """Beside those on tiles, so that one run shows both."""
    return [
        replace(v, name=f"warpgroups-{v.name}", options={**v.options, "target": WARPGROUPS})
        for v in variants
        if v.dtype != "f32" and v.shapes[0][-1] in (64, 128, 256) and v.name.startswith(_ON_GROUPS)
    ]


_ON_GROUPS = (
    *("softmax-", "causal-", "window-", "softcap-", "logsumexp-", "wide-values-", "grouped-"),
    *("bias-", "masked-", "bottom-right-", "decode-", "l1-", "relu-sum-", "sigmoid-"),
    *("spherical-", "tail-"),
)


# ---- products with what is around them, as kernels whatever the cost model says ------------------


def _product(
    name: str,
    function: Function,
    columns: int,
    *,
    features: int = 4096,
    weights: int = 1,
    gain: bool = False,
    bias: bool = False,
    residual: bool = False,
) -> Variant:
    """A product of `features` by `columns`; "eager" is the library's, with kernels around it."""

    def shapes(rows: int, features: int, columns: int) -> Shapes:
        arrays = ((rows, features), *(((rows, columns),) if residual else ()))
        vectors = ((features,),) if gain else ()
        matrices = ((columns, features),) * weights
        return (*arrays, *vectors, *matrices, *(((columns,),) if bias else ()))

    count = 2 if residual else 1
    sizes = shapes(8192, features, columns)
    return Variant(
        f"product-{name}-bf16-n{columns}",
        function,
        sizes,
        shapes(150, 264, 200),
        "bf16",
        compare=True,
        options={"library": "none", "target": WARPGROUPS},
        shared=tuple(range(count, len(sizes))),
        operations=2 * 8192 * features * columns * weights,
    )


def _product_variants() -> list[Variant]:
    return [
        *(_product("rms", f.rms_linear, n, gain=True) for n in (1024, 4096, 12288)),
        _product("rms-gated", f.rms_gated, 11008, weights=2, gain=True),
        _product("gelu", f.linear_gelu, 4096, bias=True),
        _product("gelu", f.linear_gelu, 16384, bias=True),
        _product("residual", f.linear_residual, 4096, bias=True, residual=True),
        _product("logsumexp", f.linear_logsumexp, 32000, features=1024),
        _product("logsumexp", f.linear_logsumexp, 128256),
    ]


# ---- the rest ------------------------------------------------------------------------------------


def _rows(
    name: str,
    function: Function,
    dtype: str = "bf16",
    *,
    arguments: int = 1,
    weights: int = 0,
    whole: bool = False,
) -> Variant:
    """A function of rows, bound by bandwidth."""

    def shapes(rows: int, features: int) -> Shapes:
        return ((rows, features),) * arguments + ((features,),) * weights

    return Variant(
        f"{name}-{dtype}",
        function,
        shapes(16384, 8192),
        shapes(70, 200),
        dtype,
        compare=name in ("layer-norm", "gelu-bias"),
        shared=tuple(range(arguments, arguments + weights)),
        whole=whole,
        gates=(Gate("copy", 0.8),),
    )


def _row_variants() -> list[Variant]:
    return [
        *(_rows("gelu-bias", f.gelu_bias, dtype, weights=1) for dtype in ("bf16", "f32")),
        _rows("gated", f.gated, arguments=2),
        *(_rows("layer-norm", f.layer_norm, dtype, weights=2) for dtype in ("bf16", "f32")),
        _rows("residual-rms", f.residual_rms, arguments=2, weights=1),
        *(_rows("rows-softmax", f.rows_softmax, dtype) for dtype in ("bf16", "f32")),
        _rows("l2", f.l2),
        _rows("row-sums", f.row_sums),
        _rows("column-largest", f.column_largest, whole=True),
    ]


_ON_TILES = [
    *_softmax_variants(),
    *_masked_variants(),
    *_other_normalizers(),
    *_tails(),
    *_row_variants(),
]

MATRIX: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (*_ON_TILES, *_warpgroup_variants(_ON_TILES), *_product_variants())
}
"""By name: a package each, to see that every kind of kernel is right."""
