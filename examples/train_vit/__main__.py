"""Trains a vision transformer, compiled and in eager mode: `python -m examples.train_vit`.

With `--gate` the exit status says whether compiled training is eager's: the first 20 losses of each
seed within 1e-4, the median of the final losses inside the range of the eager seeds, less memory.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from examples.train_vit.report import draw
from examples.train_vit.train import Settings
from examples.train_vit.trial import run_trial


def main() -> int:
    """Run all trials; write losses, memory and figures into a folder."""
    parser = argparse.ArgumentParser(prog="python -m examples.train_vit", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("train_vit"), help="folder to write to")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when something is missed")
    parser.add_argument("--seeds", type=int, default=5, help="eager runs to compare with")
    parser.add_argument("--compiled", type=int, default=3, help="compiled runs, at most as many")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="steps of training")
    parser.add_argument("--rest", choices=("inductor", "eager"), default="inductor")
    arguments = parser.parse_args()
    settings = Settings(steps=arguments.steps, rest=arguments.rest)
    run = partial(run_trial, settings=settings, seeds=arguments.seeds, compiled=arguments.compiled)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        trials = list(pool.map(run, ("softmax", "spherical")))
    print("\n".join(trial.text() for trial in trials))
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = {
        "torch": torch.__version__,
        "settings": asdict(settings),
        "trials": [{**asdict(trial), "missed": trial.missed()} for trial in trials],
    }
    (arguments.out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(trials, arguments.out / "training.png")
    return 1 if arguments.gate and any(trial.missed() for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
