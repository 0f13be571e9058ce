"""The rules of wgmma for registers hold in PTX, and what breaks one is found."""

import re
from functools import cache

import pytest

from diagc.mlir import ir
from diagc.targets.nvptx.arch import parse_arch
from diagc.targets.nvptx.pipeline import lower_to_nvvm, module_ptx
from diagc.targets.nvptx.tiles.schedule import TileSchedule
from diagc.targets.nvptx.warpgroups.lower import lower_warpgroups
from diagc.testing.attention import Attention
from diagc.testing.tile_kernels import kernels_of
from diagc.testing.wgmma_registers import lacking_registers, misuses

KERNELS = {
    "products that lag": Attention("q >= x", d=64),
    "products that run ahead": Attention("q >= x", d=64, normaliser="l2", arguments="B: q x bf16"),
    "keys that are values": Attention(d=64, scores="S * 0.17"),
}
PRODUCT = re.compile(r"(?m)^.*wgmma\.mma_async.*\{(%r\d+),.*\}, \{(%r\d+),.*$")


@cache
def ptx(name: str) -> str:
    _module, (kernel,) = kernels_of(KERNELS[name].text)
    schedule = TileSchedule(warps=8, chunk=64, stages=2, producers=4)
    with kernel.context, ir.Location.unknown():
        built = lower_warpgroups(kernel, parse_arch("sm_90a"), schedule=schedule)
        lower_to_nvvm(built.module)
        return module_ptx(built.module)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_keep_the_rules(name: str) -> None:
    assert ptx(name).count("wgmma.mma_async") > 8
    assert misuses(ptx(name)) == []


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("word", ["fence", "wait_group", "commit_group"])
def test_each_that_is_left_out_is_found(name: str, word: str) -> None:
    """But a fence right behind products, whose own fence serves for both."""
    text, found = ptx(name), 0
    for place in re.finditer(rf"(?m)^.*wgmma\.{word}.*$", text):
        before = text[: place.start()]
        follows = word == "fence" and "commit_group" in before[before.rfind("wgmma.") :]
        if not follows:
            assert misuses(before + text[place.end() :]), before.count("\n")
            found += 1
    assert found > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mov.b32 \t{1}, 0;", "writes words of A"),
        ("mov.b32 \t{0}, 0;", "touches sums under way"),
        ("mov.b32 \t%r1, {0};", "touches sums under way"),
        ("st.shared.b32 \t[shared], {0};", "touches sums under way"),
        ("@%p1 mov.b32 \t{1}, 0;", "writes words of A"),
    ],
)
def test_registers_that_are_touched_behind_a_product(change: str, message: str) -> None:
    text = ptx("products that lag")
    place = PRODUCT.search(text)
    assert place is not None
    line = change.format(place[1], place[2])
    found = misuses(f"{text[: place.end()]}\n{line}{text[place.end() :]}")
    assert any(message in sentence for sentence in found), found


def test_registers_that_are_written_between_fence_and_product() -> None:
    text = ptx("products that lag")
    place = PRODUCT.search(text)
    assert place is not None
    found = misuses(f"{text[: place.start()]}mov.b32 \t{place[2]}, 0;\n{text[place.start() :]}")
    assert any("no fence behind" in sentence for sentence in found), found


def test_registers_that_a_block_does_not_have() -> None:
    text = ptx("products that lag")
    symbol = re.findall(r"\.entry (\w+)", text)[0]
    assert lacking_registers(text, symbol, 384, 168) == 0
    assert lacking_registers(text, symbol, 384, 160) == 128 * 24 + 256 * 240 - 384 * 160
