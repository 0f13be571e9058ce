"""The gene regulation example: the network is the published one, models and scores are right."""

from collections.abc import Callable, Iterator

import pytest
import sympy
import torch

from diagc.testing.seed import SEED
from diagc.torch_backend.report import collecting
from examples.gene_regulation.data import draw_cells, end_of
from examples.gene_regulation.edges import (
    Agreement,
    agreement,
    average_precision,
    jacobian,
    readouts,
    roc_area,
)
from examples.gene_regulation.model import WEIGHTS, GeneAttention
from examples.gene_regulation.network import (
    CELL_TYPES,
    GENES,
    PROGENITOR,
    derivative,
    edges,
    next_state,
    simulate,
    state,
)
from examples.gene_regulation.train import Settings, compiled_by_diagc, fit_linear, train

# Table 1 of the paper, in its own signs.
PUBLISHED = """
Gata2  = Gata2 ∧ ¬(Gata1 ∧ Fog1) ∧ ¬Pu1
Gata1  = (Gata1 ∨ Gata2 ∨ Fli1) ∧ ¬Pu1
Fog1   = Gata1
EKLF   = Gata1 ∧ ¬Fli1
Fli1   = Gata1 ∧ ¬EKLF
SCL    = Gata1 ∧ ¬Pu1
Cebpa  = Cebpa ∧ ¬(Gata1 ∧ Fog1 ∧ SCL)
Pu1    = (Cebpa ∨ Pu1) ∧ ¬(Gata1 ∨ Gata2)
cJun   = Pu1 ∧ ¬Gfi1
EgrNab = (Pu1 ∧ cJun) ∧ ¬Gfi1
Gfi1   = Cebpa ∧ ¬EgrNab
"""

# All steady states that the tool Neet finds, as numbers whose bit i is gene i. Two of them are no
# cell types and not reached from the progenitor: nothing, and PU.1 with its targets but no C/EBPa.
STEADY = {0, 46, 54, 896, 960, 1216}


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    """Seeded; one thread, for the layers are small; Dynamo as it starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    torch.manual_seed(SEED)
    yield
    torch.set_num_threads(threads)
    torch._dynamo.reset()


def active(number: int) -> frozenset[str]:
    return frozenset(gene for bit, gene in enumerate(GENES) if number >> bit & 1)


def random_states(count: int) -> torch.Tensor:
    return torch.rand(count, len(GENES), dtype=torch.float64)


def test_rules_equal_published_table() -> None:
    symbols = sympy.symbols(GENES)
    lines = [line.split(" = ") for line in PUBLISHED.strip().splitlines()]
    assert [name.strip() for name, _ in lines] == list(GENES)
    for name, formula in lines:
        text = formula.translate({ord("∧"): "&", ord("∨"): "|", ord("¬"): "~"})
        published = sympy.lambdify(
            symbols, sympy.sympify(text, dict(zip(GENES, symbols, strict=True)))
        )
        for number in range(2 ** len(GENES)):
            on = active(number)
            expected = published(*(gene in on for gene in GENES))
            assert bool(next_state(name.strip(), on)) == bool(expected), (name, on)


def test_steady_states_are_the_known_ones() -> None:
    found = {
        number
        for number in range(2 ** len(GENES))
        if {gene for gene in GENES if next_state(gene, active(number))} == active(number)
    }
    assert found == STEADY
    assert set(CELL_TYPES.values()) < {active(number) for number in STEADY}


def test_progenitor_reaches_the_cell_types_and_no_cycle() -> None:
    """One gene at a time, as in the paper: a hierarchical, acyclic graph with four ends."""
    path: list[frozenset[str]] = []
    ends: set[frozenset[str]] = set()
    done: set[frozenset[str]] = set()

    def visit(current: frozenset[str]) -> None:
        assert current not in path, "a cycle"
        if current in done:
            return
        changed = [gene for gene in GENES if next_state(gene, current) != (gene in current)]
        path.append(current)
        for gene in changed:
            visit(current ^ {gene})
        path.pop()
        done.add(current)
        if not changed:
            ends.add(current)

    visit(PROGENITOR)
    assert ends == set(CELL_TYPES.values())


@pytest.mark.parametrize("kind", CELL_TYPES)
def test_cell_types_are_stable_states_of_the_odes(kind: str) -> None:
    at_rest = state(CELL_TYPES[kind])
    assert not derivative(at_rest).any()
    matrix = torch.func.jacrev(derivative)(at_rest)
    assert torch.linalg.eigvals(matrix).real.max() < 0


def test_differentiation_reaches_every_cell_type() -> None:
    cells = draw_cells("differentiation", SEED)
    assert torch.bincount(end_of(cells.training[0])).tolist() == [16] * 4
    assert torch.bincount(end_of(cells.test[0])).tolist() == [8] * 4
    assert (cells.training[0] - state(PROGENITOR)).abs().max() <= 0.6


def test_odes_equal_formulas_by_hand() -> None:
    x = random_states(20)
    by_name = dict(zip(GENES, (1.125 * x**3 / (x**3 + 0.125)).unbind(-1), strict=True))
    on, off = by_name, {name: 1 - value for name, value in by_name.items()}
    expected = {
        "EKLF": on["Gata1"] * off["Fli1"],
        "Gata1": off["Pu1"] * (1 - off["Gata1"] * off["Gata2"] * off["Fli1"]),
        "Cebpa": on["Cebpa"] * (1 - on["Gata1"] * on["Fog1"] * on["SCL"]),
    }
    for name, target in expected.items():
        row = GENES.index(name)
        torch.testing.assert_close(derivative(x)[:, row], target - x[:, row])


def test_edges_are_the_signs_of_the_odes() -> None:
    matrices = torch.func.vmap(torch.func.jacrev(derivative))(random_states(50))
    matrices = matrices + torch.eye(len(GENES))  # without the decay
    assert (matrices.sign() == edges()).all()
    assert (edges() > 0).sum() == 15
    assert (edges() < 0).sum() == 15


def test_integrator_is_of_fourth_order() -> None:
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    spin = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    exact = torch.linalg.matrix_exp(2 * spin.T) @ start
    error = [
        (simulate(lambda x: x @ spin, start, 3, 1.0, inner)[-1] - exact).norm().item()
        for inner in (4, 8)
    ]
    assert error[0] / error[1] == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_compiled_model_equals_eager(weights: str) -> None:
    model = GeneAttention(weights)
    expression = torch.rand(24, len(GENES))
    cotangent = torch.randn(24, len(GENES))

    def run(predict: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        result = predict(expression)
        return [result, *torch.autograd.grad(result, list(model.parameters()), cotangent)]

    with collecting() as reports:
        compiled = run(compiled_by_diagc(model))
    (report,) = reports
    assert len(report.regions) == 1
    for ours, theirs in zip(compiled, run(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_compiled_training_equals_eager(weights: str) -> None:
    paths = draw_cells("perturbation", SEED).training
    settings = Settings(steps=10)
    losses = [train(weights, paths, SEED, settings, compiled=c)[1] for c in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] != losses[0][0]


def hand_made(weights: str, scores: torch.Tensor) -> GeneAttention:
    """Predicts dx/dt = w x, where the weights w come from given scores [genes, genes].

    Features: one for each gene's identity, one for expression, one for what was read. The MLP
    passes that on, for gelu(a) - gelu(-a) = a.
    """
    genes = len(scores)
    model = GeneAttention(weights, genes, genes + 2, heads=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.identity[:, :genes] = torch.eye(genes)
        model.expression[:, genes] = 1
        model.query_key.weight[:genes, :genes] = scores.T * (genes + 2) ** 0.5
        model.query_key.weight[genes + 2 : 2 * genes + 2, :genes] = torch.eye(genes)
        model.value.weight[genes + 1, genes] = 1
        model.output.weight[genes + 1, genes + 1] = 1
        named = dict(model.named_parameters())
        named["mlp.0.weight"][:2, genes + 1] = torch.tensor([1.0, -1.0])
        named["mlp.2.weight"][0, :2] = torch.tensor([1.0, -1.0])
    return model


@pytest.mark.parametrize("name", ["jacobian", "path", "weight"])
def test_readouts_of_a_model_with_known_edges(name: str) -> None:
    scores = torch.tensor([[0.0, 3.0, 0.0], [-2.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    states = torch.rand(5, 3)
    signed = readouts(hand_made("spherical", scores), states)[name]
    torch.testing.assert_close(signed, torch.nn.functional.normalize(scores, dim=-1))
    assert agreement(signed, scores.sign().double()) == Agreement(1.0, 1.0, 1.0)
    positive = readouts(hand_made("softmax", scores), states)[name]
    torch.testing.assert_close(positive, torch.softmax(scores, -1))
    assert agreement(positive, scores.sign().double()).signs == pytest.approx(2 / 3)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_jacobian_equals_finite_differences(weights: str) -> None:
    model = GeneAttention(weights).double()
    states = random_states(3)
    step = 1e-6 * torch.eye(len(GENES), dtype=torch.float64)
    with torch.no_grad():
        columns = [((model(states + s) - model(states - s)) / 2e-6).mean(0) for s in step.unbind()]
        weight = model.weights(states)
        path = [
            ((model.derivative(states + s, weight) - model.derivative(states - s, weight)) / 2e-6)
            for s in step.unbind()
        ]
    found = readouts(model, states)
    torch.testing.assert_close(found["jacobian"], torch.stack(columns, 1), rtol=1e-6, atol=1e-8)
    means = torch.stack([value.mean(0) for value in path], 1)
    torch.testing.assert_close(found["path"], means, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(found["path"], found["jacobian"], rtol=1e-2)


def test_scores_of_rankings_counted_by_hand() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6]).numpy()
    positive = torch.tensor([True, False, True, False]).numpy()
    assert roc_area(scores, positive) == pytest.approx(3 / 4)
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3) / 2)
    assert roc_area(0 * scores, positive) == pytest.approx(1 / 2)
    assert average_precision(0 * scores, positive) == pytest.approx(1 / 2)


def test_agreement_ignores_edges_to_itself() -> None:
    signs = edges()
    wrong_there = signs.clone().fill_diagonal_(-7)
    assert agreement(wrong_there, signs) == Agreement(1.0, 1.0, 1.0)
    assert agreement(-signs, signs).signs == 0
    assert agreement(torch.zeros_like(signs), signs) == Agreement(0.5, 26 / 110, 0)


def test_linear_baseline_is_least_squares() -> None:
    paths = draw_cells("perturbation", SEED).training
    predict = fit_linear(paths)
    inputs = paths.flatten(0, 1)
    residual = derivative(inputs) - predict(inputs)
    assert residual.mean(0).abs().max() < 1e-9
    assert (inputs.T @ residual).abs().max() < 1e-8
    matrix = jacobian(predict, inputs[:2])
    torch.testing.assert_close(predict(inputs[:1] + 1) - predict(inputs[:1]), matrix.sum(1)[None])
