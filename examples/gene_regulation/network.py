"""The myeloid differentiation network of Krumsiek et al. 2011: Boolean rules, and ODEs of them.

    Krumsiek, Marr, Schroeder, Theis: Hierarchical Differentiation of Myeloid Progenitors Is Encoded
    in the Transcription Factor Network. PLoS ONE 6(8): e22649, 2011.
    doi:10.1371/journal.pone.0022649

The rules are those of its Table 1. Four transcriptions were compared: model 177 of the collection
biodivine-boolean-models (from Text S1 of the paper), krumsiek11 of scanpy (from Table 1), the
myeloid network of Neet, and "PLOS" of karme. They agree. karme has a second network, "CAV", where
C/EBPa is repressed by SCL *or* (GATA-1 and FOG-1); in all others SCL, GATA-1 and FOG-1 are needed
together, which is what stands here.

Rules become ODEs as in Odefy (Wittmann et al. 2009, BMC Systems Biology 3:98; Krumsiek et al. 2010,
BMC Bioinformatics 11:233), in the form called normalised HillCubes there:

    dx_i/dt = (B_i(f(x_1), f(x_2) ...) - x_i) / tau,     f(x) = (1 + k^n) x^n / (x^n + k^n)

where B_i is the multilinear interpolation of the truth table of rule i. f(0) = 0 and f(1) = 1, so
every steady state of the rules is one of the ODEs.
"""

import inspect
from collections.abc import Callable
from functools import cache
from itertools import product

import torch
from torch import Tensor

__all__ = [
    "CELL_TYPES",
    "EXPONENT",
    "GENES",
    "PROGENITOR",
    "RULES",
    "TAU",
    "THRESHOLD",
    "derivative",
    "edges",
    "next_state",
    "regulators",
    "simulate",
    "state",
]

EXPONENT = 3
"""n of the Hill functions."""
THRESHOLD = 0.5
"""k of the Hill functions."""
TAU = 1.0
"""Life time of every factor, which is the unit of time."""

RULES: dict[str, Callable[..., bool]] = {
    "Gata2": lambda Gata2, Gata1, Fog1, Pu1: Gata2 and not (Gata1 and Fog1) and not Pu1,
    "Gata1": lambda Gata1, Gata2, Fli1, Pu1: (Gata1 or Gata2 or Fli1) and not Pu1,
    "Fog1": lambda Gata1: Gata1,
    "EKLF": lambda Gata1, Fli1: Gata1 and not Fli1,
    "Fli1": lambda Gata1, EKLF: Gata1 and not EKLF,
    "SCL": lambda Gata1, Pu1: Gata1 and not Pu1,
    "Cebpa": lambda Cebpa, Gata1, Fog1, SCL: Cebpa and not (Gata1 and Fog1 and SCL),
    "Pu1": lambda Cebpa, Pu1, Gata1, Gata2: (Cebpa or Pu1) and not (Gata1 or Gata2),
    "cJun": lambda Pu1, Gfi1: Pu1 and not Gfi1,
    "EgrNab": lambda Pu1, cJun, Gfi1: Pu1 and cJun and not Gfi1,
    "Gfi1": lambda Cebpa, EgrNab: Cebpa and not EgrNab,
}
"""The rule of each gene; its arguments are the regulators."""

GENES = tuple(RULES)

# The start, and the steady states that are reached from it: Figure 3 of the paper.
PROGENITOR = frozenset({"Gata2", "Cebpa", "Pu1"})
CELL_TYPES = {
    "erythrocyte": frozenset({"Gata1", "Fog1", "EKLF", "SCL"}),
    "megakaryocyte": frozenset({"Gata1", "Fog1", "Fli1", "SCL"}),
    "monocyte": frozenset({"Cebpa", "Pu1", "cJun", "EgrNab"}),
    "granulocyte": frozenset({"Cebpa", "Pu1", "Gfi1"}),
}


@cache
def regulators(gene: str) -> tuple[str, ...]:
    """Give the genes that the rule of `gene` reads."""
    return tuple(inspect.signature(RULES[gene]).parameters)


def state(active: frozenset[str]) -> Tensor:
    """Give the expression [genes] in f64 of a state: 1 for the active genes, 0 for the others."""
    return torch.tensor([float(gene in active) for gene in GENES], dtype=torch.float64)


def next_state(gene: str, active: frozenset[str]) -> bool:
    """Apply the rule of one gene to a state."""
    return RULES[gene](*(name in active for name in regulators(gene)))


def edges() -> Tensor:
    """Give the signed network [genes, genes]: 1 at (i, j) if j activates i, -1 if it inhibits i.

    The sign is that of B_i(j on) - B_i(j off). Each regulator of this network has one sign.
    """
    signs = torch.zeros(len(GENES), len(GENES), dtype=torch.float64)
    for row, gene in enumerate(GENES):
        table = _TABLES[gene]
        for position, name in enumerate(regulators(gene)):
            effects = (table.select(position, 1) - table.select(position, 0)).unique().tolist()
            (sign,) = set(effects) - {0.0}
            signs[row, GENES.index(name)] = sign
    return signs


def derivative(expression: Tensor) -> Tensor:
    """Give dx/dt [..., genes] of expressions [..., genes] in 0 to 1."""
    powers = expression**EXPONENT
    activity = (1 + THRESHOLD**EXPONENT) * powers / (powers + THRESHOLD**EXPONENT)
    inputs = activity[..., _INPUTS]
    values = _CUBES.to(expression).expand(*expression.shape, -1)
    for value in inputs.unbind(-1):  # each halves the cube: linear in this input
        off, on = values.chunk(2, -1)
        values = off + (on - off) * value[..., None]
    return (values.squeeze(-1) - expression) / TAU


def simulate(
    field: Callable[[Tensor], Tensor], start: Tensor, samples: int, interval: float, inner: int = 4
) -> Tensor:
    """Integrate dx/dt = field(x) by the classical Runge-Kutta method.

    Gives the samples [samples, ..., genes] at times 0, interval, 2 interval ...; each interval
    takes `inner` steps.
    """
    step = interval / inner
    path = [start]
    for _ in range(samples - 1):
        x = path[-1]
        for _ in range(inner):
            a = field(x)
            b = field(x + step / 2 * a)
            c = field(x + step / 2 * b)
            d = field(x + step * c)
            x = x + step / 6 * (a + 2 * b + 2 * c + d)
        path.append(x)
    return torch.stack(path)


def _truth_table(gene: str) -> Tensor:
    """Give the values of a rule, with one axis of size 2 for each regulator."""
    count = len(regulators(gene))
    values = [float(RULES[gene](*bits)) for bits in product((False, True), repeat=count)]
    return torch.tensor(values, dtype=torch.float64).reshape((2,) * count)


def _cubes() -> tuple[Tensor, Tensor]:
    """Give the inputs of all rules [genes, 4] and their truth tables [genes, 16], in one shape.

    A rule with fewer regulators gets inputs that its table ignores.
    """
    inputs = torch.zeros(len(GENES), _INPUTS_OF_A_RULE, dtype=torch.long)
    cubes = []
    for row, gene in enumerate(GENES):
        names = regulators(gene)
        inputs[row, : len(names)] = torch.tensor([GENES.index(name) for name in names])
        cubes.append(
            _TABLES[gene].flatten().repeat_interleave(2 ** (_INPUTS_OF_A_RULE - len(names)))
        )
    return inputs, torch.stack(cubes)


_TABLES = {gene: _truth_table(gene) for gene in GENES}
_INPUTS_OF_A_RULE = max(table.ndim for table in _TABLES.values())
_INPUTS, _CUBES = _cubes()
