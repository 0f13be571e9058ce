"""Pictures and a table of a result of `gpu.check`: rates, bandwidths, this run's ceilings.

    PYTHONPATH=python:benchmarks python -m gpu.plots result.json --out folder

Each picture is written as PNG and as SVG; `table.md` has all rows. What was skipped or failed is
missing in pictures.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import matplotlib as mpl
from tables import markdown

mpl.use("Agg")

import matplotlib.pyplot as plt  # behind the choice of a back end
from matplotlib.axes import Axes

from gpu.measure import OURS
from gpu.table import PREFIX, TABLE

__all__ = ["draw", "main", "series", "table"]

Outcome = Mapping[str, Any]
Series = dict[str, list[tuple[int, float]]]
"""By contender: (length, value) of its rows, by length."""

_ROW = re.compile(rf"{PREFIX}(?P<group>[a-z-]+-d\d+)-n(?P<n>\d+)")
_LONGEST = 6
"""Contenders are told apart by colours, which are no more than twice so many."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw all pictures of a result; gives 1 when it has no rows that were timed."""
    parser = argparse.ArgumentParser(description="draw the results of gpu.check")
    parser.add_argument("result", type=Path, help="JSON of gpu.check")
    parser.add_argument("--out", type=Path, default=Path(), help="folder; default this one")
    args = parser.parse_args(arguments)
    record = json.loads(args.result.read_text(encoding="utf-8"))
    args.out.mkdir(parents=True, exist_ok=True)
    written = list(draw(record, args.out))
    (args.out / "table.md").write_text(table(record), encoding="utf-8")
    for path in written:
        print(path)
    return 0 if written else 1


def draw(record: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Write the pictures; gives their paths."""
    timed = [o for o in record["outcomes"] if o["status"] == "ok" and o["times"] is not None]
    groups: dict[str, list[Outcome]] = {}
    for outcome in timed:
        match = _ROW.fullmatch(outcome["variant"])
        if match is not None and not match["group"].startswith("decode"):
            groups.setdefault(match["group"], []).append(outcome)
    where = f"{record['device']}, {record['time'][:10]}"
    if record["small"]:
        where += ": SMALL SIZES, a test of the scripts"
    matmul = record["ceilings"].get("bf16_operations_per_second", 0.0) / 1e12
    for group, outcomes in groups.items():
        yield from _rates(group, series(outcomes), where, matmul, folder)
    yield from _bandwidths(timed, where, record["ceilings"]["copy_bytes_per_second"], folder)


def table(record: Mapping[str, Any]) -> str:
    """All rows in Markdown: milliseconds, ours in TFLOP/s and GB/s, peers' time over ours."""
    outcomes = record["outcomes"]
    timed = [o for o in outcomes if o["times"] is not None]
    peers = list(dict.fromkeys(n for o in timed for n in o["times"]["milliseconds"] if n != OURS))
    rows = [_cells(outcome, peers) for outcome in outcomes]
    ceilings = ", ".join(f"{name}: {value:.3g}" for name, value in record["ceilings"].items())
    text = [
        f"GPU benchmark, {record['device']}, {record['time']}",
        f"Peers: t(peer) / t(diagc), above 1 diagc is faster. Ceilings of the run: {ceilings}.",
    ]
    return markdown(text, ["row", "state", "ms", "TFLOP/s", "GB/s", *peers], rows)


def _cells(outcome: Outcome, peers: Sequence[str]) -> list[str]:
    times, name = outcome["times"], outcome["variant"]
    if times is None:
        return [name, outcome["status"], *("" for _ in range(3 + len(peers)))]
    mine = times["milliseconds"]
    rate = f"{outcome['flops'] / mine[OURS] / 1e9:.1f}" if outcome["flops"] else ""
    ratios = (f"{mine[peer] / mine[OURS]:.2f}" if peer in mine else "" for peer in peers)
    moved = f"{outcome['moved'] / mine[OURS] / 1e6:.0f}"
    return [name, outcome["status"], f"{mine[OURS]:.4f}", rate, moved, *ratios]


def series(outcomes: Sequence[Outcome]) -> Series:
    """TFLOP/s of every contender over lengths.

    All by what attention takes, 4 h n^2 d, half of it where it is causal, so that contenders with
    another algorithm are drawn by the time that they save.
    """
    found: Series = {}
    for outcome in outcomes:
        match = _ROW.fullmatch(outcome["variant"])
        assert match is not None
        flops = _flops(outcome, causal="causal" in match["group"])
        for name, milliseconds in outcome["times"]["milliseconds"].items():
            rate = flops / (milliseconds * 1e-3) / 1e12
            found.setdefault(name, []).append((int(match["n"]), rate))
    return {name: sorted(points) for name, points in found.items()}


def _flops(outcome: Outcome, causal: bool) -> float:
    if outcome["flops"] is not None:
        return float(outcome["flops"])
    (*_, d), keys, values = outcome["shapes"][:3]
    rows = prod(outcome["shapes"][0][:-1])
    return 2.0 * rows * keys[-2] * (d + values[-1]) * (0.5 if causal else 1.0)


def _rates(group: str, found: Series, where: str, ceiling: float, folder: Path) -> Iterator[Path]:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name, points in found.items():
        lengths, values = zip(*points, strict=True)
        style: dict[str, Any] = {"linewidth": 2.5, "color": "black"} if name == OURS else {}
        axes.plot(lengths, values, marker="o", label=name, **style)
    if ceiling:
        axes.axhline(ceiling, linestyle="--", color="gray", label="matmul of this run")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("queries and keys")
    axes.set_ylabel("TFLOP/s")
    yield from _write(figure, axes, f"{group}, bf16\n{where}", folder / f"{PREFIX}{group}")


def _bandwidths(
    timed: Sequence[Outcome], where: str, ceiling: float, folder: Path
) -> Iterator[Path]:
    """Rows whose limit is memory: GB/s of every contender."""
    known = {name for name, row in TABLE.items() if row.operations is None}
    rows = [o for o in timed if o["variant"] in known and "spherical" not in o["variant"]]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(9, 0.6 + 0.6 * len(rows)))
    names = list(dict.fromkeys(n for o in rows for n in o["times"]["milliseconds"]))
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        pairs = [
            (place + number * height, o["moved"] / (o["times"]["milliseconds"][name] * 1e-3) / 1e9)
            for place, o in enumerate(rows)
            if name in o["times"]["milliseconds"]
        ]
        places, values = zip(*pairs, strict=True)
        color = "black" if name == OURS else None
        axes.barh(places, values, height=height, label=name, color=color)
    axes.axvline(ceiling / 1e9, linestyle="--", color="gray", label="copy of this run")
    axes.set_yticks(range(len(rows)), [o["variant"].removeprefix(PREFIX) for o in rows])
    axes.invert_yaxis()
    axes.set_xlabel("GB/s of arguments and results")
    yield from _write(figure, axes, f"bound by memory\n{where}", folder / f"{PREFIX}bandwidth")


def _write(figure: Any, axes: Axes, title: str, path: Path) -> Iterator[Path]:
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, ncols=1 if len(axes.get_legend_handles_labels()[0]) < _LONGEST else 2)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    for suffix in (".png", ".svg"):
        target = path.with_name(path.name + suffix)
        figure.savefig(target, dpi=120)
        yield target
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
