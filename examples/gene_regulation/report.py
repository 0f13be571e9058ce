"""Tables of the results, from the numbers of all trials."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import mean, stdev

from examples.gene_regulation.trial import Fit, Trial

__all__ = ["READOUTS", "as_json", "experiments_of", "relative_differences", "tables"]

MODELS = ("softmax", "spherical", "linear", "ODEs")
READOUTS = ("jacobian", "path", "weight")


def as_json(trials: Sequence[Trial]) -> str:
    """Give errors and agreements of every trial and model, without matrices and trajectories."""
    rows = [
        {
            "experiment": trial.experiment,
            "seed": trial.seed,
            "model": model,
            "errors": asdict(fit.errors),
            "agreements": {name: asdict(value) for name, value in fit.agreements.items()},
        }
        for trial in trials
        for model, fit in trial.fits.items()
    ]
    return json.dumps(rows, indent=1) + "\n"


def experiments_of(trials: Sequence[Trial]) -> list[str]:
    """Give the names of the experiments in their order."""
    return list(dict.fromkeys(trial.experiment for trial in trials))


def tables(trials: Sequence[Trial]) -> str:
    """Give the results as Markdown: mean ± standard deviation over seeds."""
    parts = []
    for experiment in experiments_of(trials):
        own = [trial for trial in trials if trial.experiment == experiment]
        parts += [f"### {experiment}, {len(own)} seeds", "", *_errors(own), "", *_edges(own), ""]
        parts += [*_pairs(own), ""]
    parts += list(_equality(trials))
    return "\n".join(parts) + "\n"


def _errors(trials: Sequence[Trial]) -> list[str]:
    lines = ["| model | error of dx/dt | error of trajectories | right ends |", "|---|---|---|---|"]
    for model in MODELS[:3]:
        errors = [trial.fits[model].errors for trial in trials]
        cells = [
            _spread([e.derivative for e in errors]),
            _spread([e.path for e in errors]),
            _spread([e.fates for e in errors]),
        ]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def _edges(trials: Sequence[Trial]) -> list[str]:
    lines = ["| model | readout | AUROC | AUPRC | right signs |", "|---|---|---|---|---|"]
    for model in MODELS:
        for readout in READOUTS:
            if readout in trials[0].fits[model].agreements:
                found = [trial.fits[model].agreements[readout] for trial in trials]
                lines.append(f"| {model} | {readout} | {_agreements(found)} |")
    chance = [value for trial in trials for value in trial.chance]
    return [*lines, f"| shuffled network | | {_agreements(chance)} |"]


def _agreements(found: Sequence[object]) -> str:
    return " | ".join(
        _spread([getattr(value, name) for value in found]) for name in ("auroc", "auprc", "signs")
    )


def _pairs(trials: Sequence[Trial]) -> Iterable[str]:
    """Compare the two attentions seed by seed."""
    questions: dict[str, Callable[[Fit], float]] = {
        "lower error of dx/dt": lambda fit: -fit.errors.derivative,
        "lower error of trajectories": lambda fit: -fit.errors.path,
    }
    for readout in READOUTS:
        for name in ("auroc", "auprc", "signs"):
            questions[f"higher {name} of the {readout}"] = _measure(readout, name)
    yield "| spherical against softmax, seed by seed | better | equal | worse |"
    yield "|---|---|---|---|"
    for question, score in questions.items():
        differences = [
            score(trial.fits["spherical"]) - score(trial.fits["softmax"]) for trial in trials
        ]
        counts = [
            sum(d > 0 for d in differences),
            sum(d == 0 for d in differences),
            sum(d < 0 for d in differences),
        ]
        yield f"| {question} | {' | '.join(map(str, counts))} |"


def _measure(readout: str, name: str) -> Callable[[Fit], float]:
    return lambda fit: float(getattr(fit.agreements[readout], name))


def _equality(trials: Sequence[Trial]) -> Iterable[str]:
    """Compare the losses of compiled and eager training where both were run."""
    yield "| compiled against eager | experiment | difference of losses, first 100 | all steps |"
    yield "|---|---|---|---|"
    for trial in trials:
        for model, fit in trial.fits.items():
            if fit.eager_losses:
                apart = relative_differences(fit)
                yield (
                    f"| {model} | {trial.experiment}, seed {trial.seed} "
                    f"| {max(apart[:100]):.1e} | {max(apart):.1e} |"
                )


def relative_differences(fit: Fit) -> list[float]:
    """Give |compiled - eager| / eager of the loss of every step."""
    pairs = zip(fit.losses, fit.eager_losses, strict=True)
    return [abs(compiled - eager) / eager for compiled, eager in pairs]


def _spread(values: Sequence[float]) -> str:
    deviation = stdev(values) if len(values) > 1 else 0.0
    digits = 4 if mean(values) < 0.1 else 3
    return f"{mean(values):.{digits}f} ± {deviation:.{digits}f}"
