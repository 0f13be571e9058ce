"""Running kernels on numpy arrays and torch tensors: layouts, threads, refusals."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagc.errors import LaunchError
from diagc.runtime.cpu_kernel import CpuKernel
from diagc.runtime.launch_plan import ArrayInfo, make_plan
from diagc.runtime.numpy_launch import call_numpy
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.runtime.torch_launch import TORCH_DTYPES, call

SIZES = [(1, 1), (3, 16), (5, 37), (64, 100), (7, 15)]


@pytest.fixture(scope="module")
def add(add_object: bytes, add_signature: Any) -> CpuKernel:
    return CpuKernel(add_signature(), add_object)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(math.prod(shape)))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shape", SIZES)
def test_numpy_arrays_are_added(add: CpuKernel, shape: tuple[int, int], threads: int) -> None:
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    (total,) = call_numpy(add, [x, y], threads=threads)
    np.testing.assert_array_equal(total, x + y)


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("shape", SIZES)
def test_torch_tensors_are_added(
    add: CpuKernel, shape: tuple[int, int], threads: int | None
) -> None:
    x, y = random(*shape), random(*shape) + 1
    (total,) = call(add, [x, y], threads=threads)
    assert torch.equal(total, x + y)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 29])
def test_threads_share_the_tasks(add: CpuKernel, rows: int, threads: int) -> None:
    """The sum goes where the first term was, so that a row that is done twice shows."""
    x, y = random(rows, 5), random(rows, 5) + 1
    info = ArrayInfo(tuple(x.shape), x.stride(), "f32", "cpu")
    plan = add.make_plan([info, info], [info])
    for _ in range(20):
        total = x.clone()
        add.launch(plan, [total.data_ptr(), y.data_ptr(), total.data_ptr()], threads)
        assert torch.equal(total, x + y)


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
def test_dtypes(compile_add: Any, add_signature: Any, dtype: str) -> None:
    kernel = CpuKernel(add_signature(dtype), compile_add(dtype))
    x, y = (random(5, n).to(TORCH_DTYPES[dtype])[:, :37] for n in (37, 40))
    (total,) = call(kernel, [x, y])
    assert torch.equal(total, x + y)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t.t()[::2, 3:],
        lambda t: t[:, :1].expand(11, 20),
        lambda t: t[:1].expand(9, 11),
        lambda t: t[3:, ::2],
        lambda t: t.new_empty(0, 5),
        lambda t: t.new_empty(5, 0),
        lambda t: t[:, :1],
        lambda t: t.t()[:1],
    ],
)
def test_strided_tensors_give_the_same(add: CpuKernel, view: Any) -> None:
    x = view(random(11, 11))
    y = random(*x.shape)
    for arguments in ([x, y], [y, x], [x, x]):
        (total,) = call(add, arguments, threads=2)
        assert torch.equal(total, arguments[0] + arguments[1])


def test_only_a_last_dimension_with_gaps_is_copied(add: CpuKernel) -> None:
    infos = [ArrayInfo((4, 6), (1, 4), "f32"), ArrayInfo((4, 6), (100, 1), "f32")]
    plan = make_plan(add.signature, infos)
    assert plan.copies == (0,)
    assert make_plan(add.signature, [infos[1], infos[1]]).copies == ()
    single = ArrayInfo((4, 1), (1, 77), "f32")
    assert make_plan(add.signature, [single, single]).copies == ()


def test_numpy_arrays_with_odd_strides_or_addresses_are_copied(add: CpuKernel) -> None:
    record = np.zeros((4, 6), dtype=[("a", "u1"), ("x", "f4")])
    record["x"] = np.arange(24).reshape(4, 6)
    shifted = np.frombuffer(b"\0" + record["x"].tobytes(), np.float32, 24, offset=1).reshape(4, 6)
    for x in (record["x"], shifted, record["x"][::-1, ::-1], np.asfortranarray(record["x"])):
        (total,) = call_numpy(add, [x, x])
        np.testing.assert_array_equal(total, x + x)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_random_views_give_the_same(add: CpuKernel, data: st.DataObject) -> None:
    def view(rows: int, columns: int) -> torch.Tensor:
        steps = [data.draw(st.integers(1, 3)) for _ in range(2)]
        shape = [steps[0] * rows + 1, steps[1] * columns + 1]
        if data.draw(st.booleans()):
            return random(*shape[::-1]).t()[:: steps[0], :: steps[1]][:rows, :columns]
        return random(*shape)[:: steps[0], :: steps[1]][:rows, :columns]

    rows, columns = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 40))
    x, y = view(rows, columns), view(rows, columns)
    (total,) = call(add, [x, y], threads=data.draw(st.integers(1, 3)))
    assert torch.equal(total, x + y)


def test_results_can_be_given(add: CpuKernel) -> None:
    x, y = random(5, 37), random(5, 37)
    out = torch.full((5, 80), math.nan)
    (total,) = call(add, [x, y], out=[out[:, 2:39]])
    assert total.data_ptr() == out[:, 2:39].data_ptr()
    assert torch.equal(out[:, 2:39], x + y)
    assert out[:, :2].isnan().all()
    assert out[:, 39:].isnan().all()


def test_one_kernel_runs_in_many_threads_at_once(add: CpuKernel) -> None:
    def work(seed: int) -> bool:
        x = torch.full((200, 65), float(seed))
        return all(bool((call(add, [x, x], threads=2)[0] == 2 * seed).all()) for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


X = torch.zeros(4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([X], r"wrong number of arguments, expected 2 \(x, y\), found 1"),
        ([X, X, X], "wrong number of arguments"),
        (
            [X, torch.zeros(4)],
            r"'y' of kernel 'add' has the wrong rank, expected 2 .*\(n, c\), found",
        ),
        ([X, X.double()], "'y' of kernel 'add' has the wrong dtype, expected f32, found f64"),
        ([X, X.to(torch.complex64)], "expected f32, found torch.complex64"),
        ([X, torch.zeros(4, 7)], "wrong size along 'c', expected 6, as in 'x', found 7"),
        ([X, torch.zeros(5, 6)], "wrong size along 'n', expected 4, as in 'x', found 5"),
        ([X.to("meta"), X], "'x' of kernel 'add' is on the wrong device, expected cpu, found meta"),
        ([X, X.to_sparse()], "no dense layout"),
    ],
)
def test_unfitting_arguments_are_refused(
    add: CpuKernel, arguments: list[torch.Tensor], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        call(add, arguments)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([X, X], "wrong number of results"),
        ([torch.zeros(4, 5)], r"result 'sum' .* wrong shape, expected \(4, 6\), found \(4, 5\)"),
        ([torch.zeros(6, 4).t()], "gaps along 'c', expected stride 1, found 4"),
        ([torch.zeros(1, 6).expand(4, 6)], "several elements at one address"),
        ([X], "may overlap 'x' in memory"),
        ([X.double()], "wrong dtype"),
    ],
)
def test_unfitting_results_are_refused(
    add: CpuKernel, out: list[torch.Tensor], message: str
) -> None:
    with pytest.raises(LaunchError, match=message):
        call(add, [X, X], out=out)


def test_static_sizes_are_checked() -> None:
    wires = [Wire(name, "f32", ("n", "d")) for name in ("x", "y")]
    signature = KernelSignature("f", (wires[0],), (wires[1],), (Axis("n"), Axis("d", 64)))
    info = ArrayInfo((3, 32), (32, 1), "f32")
    with pytest.raises(
        LaunchError, match="'d', expected 64, as the kernel was compiled for, found"
    ):
        make_plan(signature, [info])


def test_index_wires_take_int64_arrays() -> None:
    wires = Wire("x", "index", ("n",)), Wire("y", "index", ("n",))
    signature = KernelSignature("f", wires[:1], wires[1:], (Axis("n"),))
    assert make_plan(signature, [ArrayInfo((3,), (1,), "i64")]).results[0].shape == (3,)
    with pytest.raises(LaunchError, match="expected i64, found i32"):
        make_plan(signature, [ArrayInfo((3,), (1,), "i32")])


def test_plans_do_not_pile_up(add: CpuKernel) -> None:
    for columns in range(600):
        call(add, [torch.empty(1, columns)] * 2)
    assert len(add.plans) <= 256
