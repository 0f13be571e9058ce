"""The gene regulation example from cells to tables and figures, and the page that shows them."""

from pathlib import Path

import pytest
import torch

from diagc.testing.seed import SEED
from examples.gene_regulation import data
from examples.gene_regulation.figures import draw_all
from examples.gene_regulation.network import derivative
from examples.gene_regulation.report import tables
from examples.gene_regulation.train import Settings
from examples.gene_regulation.trial import Trial, evaluate, run_trial

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TRAINING_CELLS", 4)
    monkeypatch.setattr(data, "TEST_CELLS", 4)


@pytest.fixture
def trial(few_cells: None) -> Trial:
    threads = torch.get_num_threads()
    done = run_trial("perturbation", SEED, Settings(steps=3), eager_too=True)
    torch.set_num_threads(threads)
    return done


def test_true_odes_have_no_errors(few_cells: None) -> None:
    paths = data.draw_cells("perturbation", SEED).test
    errors, own = evaluate(derivative, paths)
    assert (errors.derivative, errors.path, errors.fates) == (0, 0, 1)
    assert torch.equal(own, paths)
    still, _ = evaluate(torch.zeros_like, paths)
    assert still.derivative >= 1
    assert still.path == pytest.approx(float((paths - paths[0]).square().mean().sqrt()))


@pytest.mark.slow
def test_a_trial_ends_in_tables_and_figures(trial: Trial, tmp_path: Path) -> None:
    text = tables([trial])
    assert "### perturbation, 1 seeds" in text
    assert "| ODEs | jacobian | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 |" in text
    assert "| softmax | weight |" in text
    for model in ("softmax", "spherical"):
        fit = trial.fits[model]
        assert len(fit.losses) == 3
        assert fit.losses == pytest.approx(fit.eager_losses, rel=1e-4)
    draw_all([trial], tmp_path)
    shown = {path.name for path in (DOCS / "gene_regulation").glob("edges_*.png")}
    assert shown == {"edges_differentiation.png", "edges_perturbation.png"}
    assert (tmp_path / "edges_perturbation.png").stat().st_size > 10_000


def test_page_shows_the_tables_that_were_written() -> None:
    page = (DOCS / "gene_regulation.md").read_text(encoding="utf-8")
    assert (DOCS / "gene_regulation" / "tables.md").read_text(encoding="utf-8") in page
