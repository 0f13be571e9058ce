"""Attention from plain torch code, and the streams derived from it: one test a function."""

# RUN: diagc compile %s --target=cpu --reassociate=off --emit=streams | filecheck %s

import torch
import torch.nn.functional as F
from torch import Tensor


def example_inputs() -> tuple[Tensor, ...]:
    """Queries, keys, values, a bias, and the document of each position."""
    q, k, v = (torch.randn(2, 48, 32) for _ in range(3))
    return q, k, v, torch.randn(2, 48, 48), torch.arange(48) // 10


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT * 0.125


def _distances(q: Tensor, k: Tensor) -> Tensor:
    return torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])[None, :]


# CHECK-LABEL: // softmax{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def softmax(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    return torch.softmax(_scores(q, k), -1) @ v


# The streamed form; by cost it would be contracted the other way round.
# CHECK-LABEL: // l2{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["z: sum of a * a", "o: sum of a * b"]
# CHECK-NOT: "diag.stream"
def l2(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = q @ k.mT
    return s / torch.linalg.vector_norm(s, dim=-1, keepdim=True) @ v


# CHECK-LABEL: // l1_sign{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["z: sum of abs(a)", "o: sum of a * b"]
# CHECK-NOT: "diag.stream"
def l1_sign(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = q @ k.mT
    return s / s.abs().sum(-1, keepdim=True) @ v


# CHECK-LABEL: // relu{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["z: sum of max(a, 0)", "o: sum of max(a, 0) * b"]
# CHECK-NOT: "diag.stream"
def relu(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = torch.relu(q @ k.mT)
    return s / s.sum(-1, keepdim=True) @ v


# CHECK-LABEL: // squared_relu{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["z: sum of max(a, 0) * max(a, 0)", "o: sum of max(a, 0) * max(a, 0) * b"]
# CHECK-NOT: "diag.stream"
def squared_relu(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = torch.relu(q @ k.mT).square()
    return s / s.sum(-1, keepdim=True) @ v


# CHECK-LABEL: // power{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["z: sum of max(a, 0) * max(a, 0) * max(a, 0)", "o: sum of max(a, 0) * max(a, 0) * max(a, 0) * b"]
# CHECK-NOT: "diag.stream"
def power(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = torch.relu(q @ k.mT) ** 3
    return s / s.sum(-1, keepdim=True) @ v


# No statistic.
# CHECK-LABEL: // sigmoid{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["o: sum of 1 / (exp(-(a * 0.125)) + 1) * b"]
# CHECK-NOT: "diag.stream"
def sigmoid(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    return torch.sigmoid(_scores(q, k)) @ v


# One more element of score 0.
# CHECK-LABEL: // softmax1{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - max(m, 0)), corrected by exp(max(m, 0) - max(m', 0))", "o: sum of exp(a * 0.125 - max(m, 0)) * b, corrected by exp(max(m, 0) - max(m', 0))"]
# CHECK-NOT: "diag.stream"
def softmax1(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    e = _scores(q, k).exp()
    return e / (1 + e.sum(-1, keepdim=True)) @ v


# CHECK-LABEL: // tanh_capped{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of tanh(a * 0.125 / 30) * 30", "z: sum of exp(tanh(a * 0.125 / 30) * 30 - m), corrected by exp(m - m')", "o: sum of exp(tanh(a * 0.125 / 30) * 30 - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def tanh_capped(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    return torch.softmax(30 * torch.tanh(_scores(q, k) / 30), -1) @ v


# CHECK-LABEL: // added_bias{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125 + b", "z: sum of exp(a * 0.125 + b - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 + b - m) * c, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def added_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    return torch.softmax(_scores(q, k) + bias, -1) @ v


# CHECK-LABEL: // alibi{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of select(j - i >= 0, a * 0.125 - (j - i) * 0.5, -inf)", "z: sum of exp(select(j - i >= 0, a * 0.125 - (j - i) * 0.5, -inf) - m), corrected by exp(m - m')", "o: sum of exp(select(j - i >= 0, a * 0.125 - (j - i) * 0.5, -inf) - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def alibi(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    behind = _distances(q, k)
    s = _scores(q, k) - 0.5 * behind
    return torch.softmax(s.masked_fill(behind < 0, -torch.inf), -1) @ v


# CHECK-LABEL: // sliding_window{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of select(j - i >= 0 and j - i < 16, a * 0.125, -inf)", "z: sum of exp(select(j - i >= 0 and j - i < 16, a * 0.125, -inf) - m), corrected by exp(m - m')", "o: sum of exp(select(j - i >= 0 and j - i < 16, a * 0.125, -inf) - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def sliding_window(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    behind = _distances(q, k)
    seen = (behind >= 0) & (behind < 16)
    return torch.softmax(_scores(q, k).masked_fill(~seen, -torch.inf), -1) @ v


# CHECK-LABEL: // documents{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of select(u == a, b * 0.125, -inf)", "z: sum of exp(select(u == a, b * 0.125, -inf) - m), corrected by exp(m - m')", "o: sum of exp(select(u == a, b * 0.125, -inf) - m) * c, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def documents(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    seen = document[:, None] == document[None, :]
    return torch.softmax(_scores(q, k).masked_fill(~seen, -torch.inf), -1) @ v


# CHECK-LABEL: // cosine{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 10", "z: sum of exp(a * 10 - m), corrected by exp(m - m')", "o: sum of exp(a * 10 - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def cosine(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    return torch.softmax(s * 10, -1) @ v


# CHECK-LABEL: // differential{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * b, corrected by exp(m - m')"]
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * 0.4 * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def differential(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
    first, second = torch.softmax(_scores(q1, k1), -1), torch.softmax(_scores(q2, k2), -1)
    return (first - 0.4 * second) @ v


# CHECK-LABEL: // row_max_and_lse{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * b, corrected by exp(m - m')"]
# CHECK-NOT: "diag.stream"
def row_max_and_lse(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor
) -> tuple[Tensor, ...]:
    s = _scores(q, k)
    return torch.softmax(s, -1) @ v, s.amax(-1), s.logsumexp(-1)


# CHECK-LABEL: // entropy{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * b, corrected by exp(m - m')", "z2: sum of exp(a * 0.125 - m) * (a * 0.125 - m), corrected by 1 further sum and exp(m - m'), m' - m"]
# CHECK-NOT: "diag.stream"
def entropy(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor
) -> tuple[Tensor, Tensor]:
    logs = torch.log_softmax(_scores(q, k), -1)
    return logs.exp() @ v, -(logs.exp() * logs).sum(-1)


# Two streams: of keys, then of queries.
# CHECK-LABEL: // column_sums{{$}}
# CHECK: "diag.stream"
# CHECK: axis = "m", law = ["m: maximum of a * 0.125", "z: sum of exp(a * 0.125 - m), corrected by exp(m - m')", "o: sum of exp(a * 0.125 - m) * b, corrected by exp(m - m')"]
# CHECK: "diag.stream"
# CHECK: axis = "n", law = ["z: sum of exp(a * 0.125 - b) * c"]
# CHECK-NOT: "diag.stream"
def column_sums(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, document: Tensor
) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(_scores(q, k), -1)
    return weights @ v, weights.sum(-2)
