"""What ptxas says of kernels on tiles: no spills, registers for the blocks that are claimed."""

import pytest

from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.kernel import compile_kernel
from diagc.targets.nvptx.ptxas import disassemble, find_tool
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import compile_tiles, kernels_of

pytestmark = pytest.mark.skipif(
    find_tool() is None, reason="NOT TESTED: registers and spills, for there is no ptxas"
)

# of the forms that are tried, the one that is taken
CASES = [
    ("bf16", 64, 64, "softmax", ""),
    ("bf16", 64, 64, "softmax", "q >= x"),
    ("bf16", 128, 128, "softmax", "q >= x"),
    ("f16", 128, 64, "l1", "q >= x"),
    ("bf16", 256, 256, "softmax", "q >= x"),
    ("bf16", 64, 64, "l2", ""),
    ("f32", 64, 64, "softmax", "q >= x"),
]


@pytest.mark.parametrize(("dtype", "d", "e", "normaliser", "mask"), CASES)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_registers(dtype: str, d: int, e: int, normaliser: str, mask: str, arch: str) -> None:
    _module, kernels = kernels_of(Attention(mask, dtype, d, e, normaliser).text)
    for kernel in kernels:
        with kernel.context:
            built, compiled = compile_kernel(kernel, parse_arch(arch))
        assert "mma.sync" in compiled.ptx
        for launch in built.launches:
            used = compiled.resources[launch.symbol]
            limit = parse_arch(arch).registers // (launch.threads * launch.blocks_per_sm)
            assert used.spills == 0, launch
            assert used.registers <= limit, launch


@pytest.mark.parametrize("d", [96, 128])
def test_gram_matrices(d: int) -> None:
    """Both kernels: the states, and rows that meet them, with what a row that cancels needs."""
    text = Attention(d=d, normaliser="l2", scores="S").text
    _module, kernels = kernels_of(text, "nvptx:sm_90a")
    assert len(kernels) == 2
    for kernel in kernels:
        with kernel.context:
            built, compiled = compile_kernel(kernel, parse_arch("sm_90a"))
        assert built.tiles is not None
        assert "mma.sync" in compiled.ptx
        assert all(used.spills == 0 for used in compiled.resources.values())


def test_the_machine_code_uses_tensor_cores_and_asynchronous_copies() -> None:
    _module, (kernel,) = kernels_of(Attention(scores="S").text)
    _built, compiled = compile_tiles(kernel)
    for instruction in ("mma.sync.aligned.m16n8k16", "ldmatrix", "cp.async.cg"):
        assert instruction in compiled.ptx
    assert compiled.cubin is not None
    sass = disassemble(compiled.cubin)
    if sass is None:
        pytest.skip("NOT TESTED: machine code, for there is neither nvdisasm nor cuobjdump")
    for instruction in ("HMMA.16816", "LDSM", "LDGSTS"):
        assert instruction in sass
