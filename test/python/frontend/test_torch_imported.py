"""What an imported program tells about itself: names, dims, locations, outputs."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diagc.dialects import diag
from diagc.errors import SourceLocation
from diagc.frontend.torch import Constant, ImportedProgram, Result, UserInput, import_torch
from diagc.mlir import ir

Run = Callable[[ImportedProgram, tuple[Any, ...]], Any]


def _main(program: ImportedProgram) -> ir.Operation:
    return next(
        f for f in diag.functions(program.module) if f.attributes["sym_name"].value == "main"
    )


def _ops(program: ImportedProgram) -> list[ir.Operation]:
    return [op.operation for op in diag.function_body(_main(program)).operations]


def split_heads(x: Tensor, weight: Tensor) -> Tensor:
    projected = x @ weight
    heads = projected.unflatten(-1, (4, 16)).transpose(1, 2)
    return heads.softmax(-1)


def test_arguments_are_declared_in_split_labels() -> None:
    program = import_torch(split_heads, (torch.randn(2, 16, 8), torch.randn(8, 64)))
    attributes = [ir.DictAttr(a) for a in ir.ArrayAttr(_main(program).attributes["arg_attrs"])]
    assert [a["diag.name"].value for a in attributes] == ["x", "weight"]
    assert [a["diag.kind"].value for a in attributes] == ["user", "user"]
    dims = [[diag.strings(g) for g in ir.ArrayAttr(a["diag.dims"])] for a in attributes]
    assert [len(group) for group in dims[1]] == [1, 2]
    second = diag.function_body(_main(program)).arguments[1]
    assert list(diag.dims(second).values()) == [8, 4, 16]


def test_results_describe_their_dims() -> None:
    program = import_torch(lambda x: (x * 2).permute(2, 0, 1).flatten(1), (torch.randn(2, 3, 5),))
    (attributes,) = ir.ArrayAttr(_main(program).attributes["res_attrs"])
    groups = [diag.strings(g) for g in ir.ArrayAttr(ir.DictAttr(attributes)["diag.dims"])]
    assert groups == [["d"], ["b", "n"]]


def test_every_op_points_to_the_users_line() -> None:
    program = import_torch(split_heads, (torch.randn(2, 16, 8), torch.randn(8, 64)))
    first = inspect.getsourcelines(split_heads)[1]
    places = [SourceLocation.of(op.location) for op in _ops(program)[:-1]]
    assert all(p is not None and p.file == __file__ for p in places)
    assert [p.line for p in places if p is not None] == [first + 1, first + 3]
    contract = places[0]
    assert contract is not None
    assert contract.column == 17  # of `x @ weight`


def test_both_adapters_give_the_same_locations() -> None:
    inputs = torch.randn(2, 16, 8), torch.randn(8, 64)
    texts = [
        import_torch(split_heads, inputs, adapter=adapter).module.operation.get_asm(
            enable_debug_info=True
        )
        for adapter in ("fx", "torch-mlir")
    ]
    assert texts[0] == texts[1]


def test_values_have_the_names_of_variables() -> None:
    program = import_torch(split_heads, (torch.randn(2, 16, 8), torch.randn(8, 64)))
    text = program.module.operation.get_asm(use_name_loc_as_prefix=True)
    assert "%projected = " in text
    assert "%softmax = " in text


def test_modules_of_torch_point_into_their_forward() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    program = import_torch(layer, (torch.randn(1, 4, 8),))
    places = [SourceLocation.of(op.location) for op in _ops(program)[:-1]]
    assert all(p is not None and p.file.endswith("transformer.py") for p in places)


def test_structure_of_outputs(interpret: Run) -> None:
    x = torch.randn(3, 4)

    def function(a: Tensor) -> dict[str, Any]:
        return {"twice": a * 2, "rest": [a, None, (a.T, 7)]}

    program = import_torch(function, (x,))
    assert [type(leaf) for leaf in program.outputs.leaves] == [
        *(Result, Result, Constant, Result, Constant),
    ]
    found = interpret(program, (x,))
    assert list(found) == ["twice", "rest"]
    assert found["rest"][1] is None
    assert found["rest"][2][1] == 7
    torch.testing.assert_close(found["rest"][2][0], x.T.double())


def test_structure_of_inputs(interpret: Run) -> None:
    inputs = {"x": torch.randn(3)}, (torch.randn(3), torch.randn(3))

    def function(a: dict[str, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        return a["x"] + b[0] * b[1]

    program = import_torch(function, inputs)
    assert [p.index for p in program.parameters if isinstance(p, UserInput)] == [0, 1, 2]
    expected = function(*inputs).double()
    torch.testing.assert_close(interpret(program, inputs), expected, atol=1e-6, rtol=1e-6)


def test_unused_arguments_stay_arguments() -> None:
    program = import_torch(lambda a, b: a + 1, (torch.randn(3), torch.randn(4)))
    assert len(program.parameters) == 2
    assert len(_ops(program)) == 2


def test_the_module_lives_in_the_given_context() -> None:
    from diagc.context import make_context

    context = make_context()
    program = import_torch(lambda a: a + 1, (torch.randn(3),), context=context)
    assert program.module.context is context


def test_a_layer_of_a_model_reads_equal_whatever_stands_before_it() -> None:
    """Comment lines and other functions change locations, and nothing else."""
    x = torch.randn(2, 8)
    first = import_torch(lambda a: (a * 2).softmax(-1), (x,))
    # a comment
    second = import_torch(lambda a: (a * 2).softmax(-1), (x,))
    assert str(first.module) == str(second.module)
