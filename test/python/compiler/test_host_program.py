"""Every op that the host runs itself means what the interpreter says, at static and open sizes."""

import numpy as np
import pytest
import torch

from diagc.compiler import compile_module
from diagc.context import make_context
from diagc.errors import InternalError, LaunchError
from diagc.mlir import ir
from diagc.runtime.program import Program
from diagc.targets.interp import evaluate

Arrays = list[np.ndarray]


def wire(labels: str, sizes: str, element: str = "f32") -> str:
    names = ", ".join(f'"{label}"' for label in labels)
    return f"tensor<{''.join(f'{size}x' for size in sizes.split())}{element}, [{names}]>"


def module(body: str, arguments: list[str], results: list[str], rest: str = "") -> str:
    heads = ", ".join(f"%a{i}: {type_}" for i, type_ in enumerate(arguments))
    return f"""
      func.func @main({heads}) -> ({", ".join(results)}) {{
        {body}
        return {", ".join(f"%r{i}" for i in range(len(results)))} : {", ".join(results)}
      }}
      {rest}"""


def compiled(text: str, **externs: object) -> Program:
    with make_context(), ir.Location.unknown():
        return compile_module(ir.Module.parse(text), "interp", externs=externs)  # type: ignore[arg-type]


def check(text: str, inputs: Arrays) -> None:
    with make_context(), ir.Location.unknown():
        expected = evaluate(ir.Module.parse(text), inputs)
    for found, wanted in zip(compiled(text).run(inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def values(*shape: int) -> "np.ndarray":
    return np.random.default_rng(len(shape)).standard_normal(shape)


ONE_OP = {
    "relabel": (
        f'%r0 = "diag.relabel"(%a0) {{from = ["y"], to = ["z"]}} : '
        f"({wire('xy', '? 4')}) -> {wire('xz', '? 4')}",
        wire("xy", "? 4"),
        wire("xz", "? 4"),
    ),
    "permutation": (
        f'%r0 = "diag.relabel"(%a0) {{from = [], to = []}} : '
        f"({wire('xy', '? 4')}) -> {wire('yx', '4 ?')}",
        wire("xy", "? 4"),
        wire("yx", "4 ?"),
    ),
    "split": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(h, y, d) -> (h * 3 + d, y)>}} : '
        f"({wire('xy', '? 4')}) -> {wire('hyd', '? 4 3')}",
        wire("xy", "? 4"),
        wire("hyd", "? 4 3"),
    ),
    "merge": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(z) -> (z floordiv 4, z mod 4)>}} : '
        f"({wire('xy', '? 4')}) -> {wire('z', '?')}",
        wire("xy", "? 4"),
        wire("z", "?"),
    ),
    "merge_of_transposed": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(z) -> (z mod 6, z floordiv 6)>}} : '
        f"({wire('xy', '6 4')}) -> {wire('z', '24')}",
        wire("xy", "6 4"),
        wire("z", "24"),
    ),
    "slice": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(z, y) -> (z * 2 + 1, y)>}} : '
        f"({wire('xy', '? 4')}) -> {wire('zy', '? 4')}",
        wire("xy", "? 4"),
        wire("zy", "? 4"),
    ),
    "diagonal": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(z) -> (z, z)>}} : '
        f"({wire('xy', '6 4')}) -> {wire('z', '4')}",
        wire("xy", "6 4"),
        wire("z", "4"),
    ),
    "reversal": (
        f'%r0 = "diag.reindex"(%a0) {{map = affine_map<(z, y) -> (z * -1 + 5, y)>}} : '
        f"({wire('xy', '6 4')}) -> {wire('zy', '6 4')}",
        wire("xy", "6 4"),
        wire("zy", "6 4"),
    ),
    "concat": (
        f'%r0 = "diag.concat"(%a0, %a0) {{axes = ["x", "x"], to = "z"}} : '
        f"({wire('xy', '? 4')}, {wire('xy', '? 4')}) -> {wire('zy', '? 4')}",
        wire("xy", "? 4"),
        wire("zy", "? 4"),
    ),
    "pad": (
        f'%r0 = "diag.pad"(%a0) {{axis = "x", to = "z", low = 2 : i64, high = 1 : i64, '
        f"value = -1.5 : f32}} : ({wire('xy', '? 4')}) -> {wire('zy', '? 4')}",
        wire("xy", "? 4"),
        wire("zy", "? 4"),
    ),
    "index": (
        f'%r0 = "diag.index"() {{axis = "x"}} : () -> {wire("x", "?", "index")}',
        wire("xy", "? 4"),
        wire("x", "?", "index"),
    ),
    "constant": (
        f'%r0 = "diag.constant"() {{value = dense<[1.5, -2.0]> : tensor<2xf32>}} : '
        f"() -> {wire('z', '2')}",
        wire("xy", "? 4"),
        wire("z", "2"),
    ),
    "splat": (
        f'%r0 = "diag.constant"() {{value = dense<1.5> : tensor<2x3xbf16>}} : '
        f"() -> {wire('zw', '2 3', 'bf16')}",
        wire("xy", "? 4"),
        wire("zw", "2 3", "bf16"),
    ),
    "argument": ("%r0 = builtin.unrealized_conversion_cast %a0 : {0} to {0}", "{0}", "{0}"),
}


@pytest.mark.parametrize("name", ONE_OP)
def test_op_of_the_host(name: str) -> None:
    body, argument, result = (text.replace("{0}", wire("xy", "6 4")) for text in ONE_OP[name])
    check(module(body, [argument], [result]), [values(6, 4)])


def test_concat_permutes_its_operands() -> None:
    body = (
        f'%r0 = "diag.concat"(%a0, %a1) {{axes = ["x", "w"], to = "z"}} : '
        f"({wire('xy', '2 4')}, {wire('yw', '4 3')}) -> {wire('yz', '4 5')}"
    )
    text = module(body, [wire("xy", "2 4"), wire("yw", "4 3")], [wire("yz", "4 5")])
    check(text, [values(2, 4), values(4, 3)])


def test_dims_group_labels_and_results_are_dense() -> None:
    body = (
        f'%r0 = "diag.relabel"(%a0) {{from = [], to = []}} : '
        f"({wire('bnhd', '? ? 3 4')}) -> {wire('bhnd', '? 3 ? 4')}"
    )
    argument = wire("bnhd", "? ? 3 4") + ' {diag.dims = [["b"], [], ["n"], ["h", "d"]]}'
    result = wire("bhnd", "? 3 ? 4") + ' {diag.dims = [["b", "h"], ["n"], ["d"]]}'
    text = module(body, [argument], [wire("bhnd", "? 3 ? 4")]).replace(
        f"-> ({wire('bhnd', '? 3 ? 4')})", f"-> ({result})", 1
    )
    x = torch.randn(2, 1, 5, 12)
    (found,) = compiled(text)([x])
    expected = x[:, 0].unflatten(-1, (3, 4)).transpose(1, 2).reshape(6, 5, 4)
    assert found.is_contiguous()
    assert torch.equal(found, expected)


EXTERN = f"""
  func.func private @sort({wire("xy", "? 4")} {{diag.dims = [["x"], [], ["y"]]}})
    -> ({wire("yx", "4 ?")} {{diag.dims = [["y", "x"]]}})
    attributes {{diag.extern = "aten.sort"}}"""


def test_extern_takes_and_gives_tensors_in_its_own_shape() -> None:
    call = f"%r0 = call @sort(%a0) : ({wire('xy', '? 4')}) -> {wire('yx', '4 ?')}"
    text = module(call, [wire("xy", "? 4")], [wire("yx", "4 ?")], EXTERN)
    seen = []

    def sort(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape)
        return x[:, 0].t().reshape(-1)

    x = torch.randn(6, 4)
    (found,) = compiled(text, sort=sort)([x])
    assert seen == [(6, 1, 4)]
    assert torch.equal(found, x.t())


def test_program_is_laid_out_again_for_other_sizes_and_strides() -> None:
    body, argument, result = ONE_OP["merge"]
    program = compiled(module(body, [argument], [result]))
    for x in (torch.randn(6, 4), torch.randn(2, 4), torch.randn(4, 6).t(), torch.randn(0, 4)):
        (found,) = program([x])
        assert torch.equal(found, x.reshape(-1))
    assert program.result_shapes([(7, 4)]) == [(28,)]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.randn(6), "argument 'a' has the wrong rank, expected 2 dimensions"),
        (torch.randn(6, 4).bfloat16(), "argument 'a' has the wrong dtype, expected torch.float32"),
        (torch.randn(6, 5), "argument 'a' has the wrong size in dimension 1 (y), expected 4"),
        (torch.randn(6, 4).to_sparse(), "argument 'a' has no dense layout"),
        (None, "argument 'a' is no tensor"),
        (torch.randn(6, 4, device="meta"), "argument 'a' is on the wrong device, expected cpu"),
    ],
)
def test_wrong_tensors_are_refused_by_name(tensor: object, message: str) -> None:
    body, argument, result = ONE_OP["merge"]
    program = compiled(module(body, [argument + ' {diag.name = "a"}'], [result]))
    with pytest.raises(LaunchError) as caught:
        program.prepare([tensor])  # type: ignore[list-item]
    assert message in str(caught.value)


def test_size_that_nothing_tells_is_an_internal_error() -> None:
    body = f'%r0 = "diag.index"() {{axis = "z"}} : () -> {wire("z", "?", "index")}'
    with pytest.raises(InternalError, match='nothing tells the size of axis "z"'):
        compiled(module(body, [wire("xy", "? 4")], [wire("z", "?", "index")]))
