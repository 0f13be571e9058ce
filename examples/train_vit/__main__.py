"""Trains a vision transformer, compiled and in eager mode: `python -m examples.train_vit`.

With `--gate` the exit status says whether compiled training is eager's: the first 20 losses within
1e-4, the final loss inside the range of the eager seeds, less memory.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from examples.train_vit.model import PATCH
from examples.train_vit.report import Trial, draw
from examples.train_vit.train import Settings, peak_of_a_step, train

_SHAPES = ((32, 32), (32, 64), (64, 64))
"""Patches in each direction, for the comparison of memory: 1024, 2048 and 4096 tokens."""


def main() -> int:
    """Run all trials; write losses, memory and figures into a folder."""
    parser = argparse.ArgumentParser(prog="python -m examples.train_vit", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("train_vit"), help="folder to write to")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when something is missed")
    parser.add_argument("--seeds", type=int, default=5, help="eager runs to compare with")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="steps of training")
    parser.add_argument("--rest", choices=("inductor", "eager"), default="inductor")
    arguments = parser.parse_args()
    settings = Settings(steps=arguments.steps, rest=arguments.rest)
    trials = []
    for weights in ("softmax", "spherical"):
        trials.append(_trial(weights, settings, arguments.seeds))
        print(trials[-1].text(), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "settings": asdict(settings),
        "trials": [{**asdict(trial), "missed": trial.missed()} for trial in trials],
    }
    (arguments.out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(trials, arguments.out / "training.png")
    return 1 if arguments.gate and any(trial.missed() for trial in trials) else 0


def _trial(weights: str, settings: Settings, seeds: int) -> Trial:
    def peaks(rest: str | None) -> dict[int, float]:
        return {
            height * width: peak_of_a_step(weights, (height * PATCH, width * PATCH), rest)
            for height, width in _SHAPES
        }

    return Trial(
        weights,
        train(weights, 0, settings, compiled=True),
        [train(weights, seed, settings, compiled=False) for seed in range(seeds)],
        peaks(settings.rest),
        peaks(None),
    )


if __name__ == "__main__":
    sys.exit(main())
