"""Runs the example: `python -m examples.gene_regulation --out FOLDER` writes tables and figures."""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from examples.gene_regulation.data import EXPERIMENTS
from examples.gene_regulation.figures import draw_all
from examples.gene_regulation.report import as_json, tables
from examples.gene_regulation.train import Settings
from examples.gene_regulation.trial import run_trial


def main() -> None:
    """Run all trials, two at a time, and write what the documentation shows."""
    parser = argparse.ArgumentParser(prog="python -m examples.gene_regulation", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("gene_regulation"), help="folder to write to"
    )
    parser.add_argument("--seeds", type=_positive, default=5, help="seeds of each experiment")
    parser.add_argument("--steps", type=_positive, default=Settings.steps, help="steps of training")
    parser.add_argument("--workers", type=_positive, default=2, help="processes")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    settings = Settings(steps=arguments.steps)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(run_trial, experiment, seed, settings, eager_too=seed == 0)
            for experiment in EXPERIMENTS
            for seed in range(arguments.seeds)
        ]
        trials = [future.result() for future in futures]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(as_json(trials), encoding="utf-8")
    (arguments.out / "tables.md").write_text(tables(trials), encoding="utf-8")
    draw_all(trials, arguments.out)
    print(tables(trials))
    print(f"{arguments.out}: {time.perf_counter() - begin:.0f} s")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
