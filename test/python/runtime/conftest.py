"""Small kernels that are compiled for the run time's tests."""

from collections.abc import Callable, Iterator
from logging import Handler, LogRecord, getLogger

import pytest

from diagc.context import make_context
from diagc.mlir import arith, ir, scf, vector
from diagc.runtime.cpu_features import CpuFeatures, selected_features
from diagc.runtime.cuda import launcher as launchers
from diagc.runtime.native import native_launcher, why_not_native
from diagc.runtime.signature import Axis, KernelSignature, Wire
from diagc.targets.cpu.abi import TaskContext, build_entry, element_type
from diagc.targets.cpu.jit import JitOptions, compile_module
from diagc.testing.fake_cuda import FakeCuda

Compile = Callable[..., bytes]


def add_signature(dtype: str = "f32") -> KernelSignature:
    wires = [Wire(name, dtype, ("n", "c")) for name in ("x", "y", "sum")]
    return KernelSignature("add", tuple(wires[:2]), tuple(wires[2:]), (Axis("n"), Axis("c")))


def emit_add(task: TaskContext, lanes: int, dtype: str) -> None:
    """One row of x + y: vectors along c, the tail by a mask; bf16 is added in f32."""
    index, memory = ir.IndexType.get(), element_type(dtype)
    memory_type = ir.VectorType.get([lanes], memory)
    value_type = ir.VectorType.get([lanes], ir.Type.parse(dtype))
    wide_type = ir.VectorType.get([lanes], ir.F32Type.get())
    mask_type = ir.VectorType.get([lanes], ir.IntegerType.get_signless(1))
    zero = "0.0" if memory == value_type.element_type else "0"
    padding = arith.constant(memory_type, ir.Attribute.parse(f"dense<{zero}> : {memory_type}"))
    loop = scf.ForOp(arith.constant(index, 0), task.sizes["c"], arith.constant(index, lanes))
    with ir.InsertionPoint(loop.body):
        at = [task.task, loop.induction_variable]
        mask = vector.create_mask(mask_type, [arith.subi(task.sizes["c"], at[1])])
        x, y = (
            arith.bitcast(
                value_type, vector.maskedload(memory_type, task.memref(name), at, mask, padding)
            )
            for name in ("x", "y")
        )
        if dtype == "bf16":
            x, y = arith.extf(wide_type, x), arith.extf(wide_type, y)
        total = arith.addf(x, y)
        if dtype == "bf16":
            total = arith.truncf(value_type, total)
        vector.maskedstore(task.memref("sum"), at, mask, arith.bitcast(memory_type, total))
        scf.yield_([])


def add_module(lanes: int, dtype: str = "f32") -> ir.Module:
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        build_entry(
            module,
            add_signature(dtype),
            lambda sizes: sizes["n"],
            lambda task: emit_add(task, lanes, dtype),
        )
        assert module.operation.verify()
    return module


@pytest.fixture(scope="session")
def features() -> CpuFeatures:
    return selected_features()


@pytest.fixture(scope="session", name="add_signature")
def add_signature_fixture() -> Callable[..., KernelSignature]:
    return add_signature


@pytest.fixture(scope="session", name="add_module")
def add_module_fixture() -> Callable[..., ir.Module]:
    return add_module


@pytest.fixture(scope="session")
def compile_add(features: CpuFeatures) -> Compile:
    """Compile the addition of two [n, c] arrays for a dtype and a CPU; gives object code."""

    def compile_(
        dtype: str = "f32", cpu: CpuFeatures | None = None, isolate: bool = False
    ) -> bytes:
        chosen = cpu or features
        options = JitOptions(isolate=isolate, verify=True)
        return compile_module(add_module(chosen.lanes, dtype), chosen, options).code

    return compile_


@pytest.fixture(scope="session")
def add_object(compile_add: Compile) -> bytes:
    return compile_add()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The warnings that diagc logs during the test."""
    messages: list[str] = []

    class Keep(Handler):
        def emit(self, record: LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep()
    logger = getLogger("diagc.cache")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture(params=["native", "ctypes"])
def each_launcher(
    cuda: FakeCuda, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> FakeCuda:
    """A fake driver, once for the native launcher and once for that in Python."""
    if request.param == "ctypes":
        monkeypatch.setattr(launchers, "native_launcher", lambda: None)
    elif native_launcher() is None:
        pytest.skip(f"NOT TESTED: the native launcher, which is {why_not_native()}")
    return cuda
