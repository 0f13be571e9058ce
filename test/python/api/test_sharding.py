"""DTensors: batches and heads stay sharded, all else is gathered; two processes over gloo."""

import subprocess
import sys
from pathlib import Path

from diagc.testing.seed import SEED

PROGRAM = """
import os, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
import diagc

rank, path, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", store=dist.FileStore(path, 2), rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))

def causal(q, k, v):
    later = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
    return torch.softmax((q @ k.transpose(-1, -2)).masked_fill(later, -torch.inf), -1) @ v

def over_batch(q, k, v):
    return causal(q, k, v) / q.shape[0]  # a shard has another number of batches

def two(q, k, v):
    out = causal(q, k, v)
    return {"out": out, "sum": out.sum(-1), "all": out.mean()}

torch.manual_seed(seed)
whole = [torch.randn(3, 4, 10, 8) for _ in range(3)]
kinds = {
    "batch": ([Shard(0)] * 3, Shard(0), 0),
    "heads": ([Shard(1)] * 3, Shard(1), 0),
    "queries": ([Shard(2), Replicate(), Replicate()], Replicate(), 1),  # positions are asked for
    "one only": ([Shard(1), Replicate(), Replicate()], Shard(1), 0),
}
compiled = diagc.compile(causal)
for name, (places, wanted, sent) in kinds.items():
    ours = [
        distribute_tensor(x, mesh, [p]).detach().requires_grad_()
        for x, p in zip(whole, places, strict=True)
    ]
    theirs = [x.clone().requires_grad_() for x in whole]
    with CommDebugMode() as communication:
        out = compiled(*ours)
    assert communication.get_total_counts() == sent, (name, communication.get_comm_counts())
    assert out.placements == (wanted,), (name, out.placements)
    expected = causal(*theirs)
    torch.testing.assert_close(out.full_tensor(), expected, rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    expected.square().sum().backward()
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.full_tensor(), true.grad, rtol=1e-4, atol=1e-4)

class Model(torch.nn.Module):
    def forward(self, q, k, v):
        return torch.tanh(compiled(q, k, v))

# graphs with the op: exported, and traced with DTensors
exported = torch.export.export(Model(), tuple(whole)).module()
traced = torch.compile(Model(), backend="aot_eager", fullgraph=True)
for name, (places, wanted, sent) in kinds.items():
    for graph in (exported, traced) if name in ("batch", "one only") else (exported,):
        ours = [
            distribute_tensor(x, mesh, [p]).detach().requires_grad_()
            for x, p in zip(whole, places, strict=True)
        ]
        theirs = [x.clone().requires_grad_() for x in whole]
        out, expected = graph(*ours), torch.tanh(causal(*theirs))
        assert out.placements == (wanted,), (name, out.placements)
        torch.testing.assert_close(out.full_tensor(), expected, rtol=1e-5, atol=1e-5)
        out.square().sum().backward()
        expected.square().sum().backward()
        for mine, true, place in zip(ours, theirs, places, strict=True):
            assert mine.grad.placements == (place,)
            torch.testing.assert_close(mine.grad.full_tensor(), true.grad, rtol=1e-4, atol=1e-4)

sharded = [distribute_tensor(x, mesh, [Shard(0)]) for x in whole]
for function in (over_batch, two):
    found, expected = diagc.compile(function)(*sharded), function(*whole)
    found = torch.utils._pytree.tree_map(lambda x: x.full_tensor(), found)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

try:
    compiled(sharded[0], whole[1], whole[2])
    raise AssertionError("plain tensors among DTensors were taken")
except diagc.DiagcError as error:
    assert "DTensors" in str(error)

layer = torch.nn.Linear(8, 8)
x = distribute_tensor(whole[0][:2], mesh, [Shard(0)])  # torch's linear takes even shards only
torch.distributed.tensor.distribute_module(layer, mesh)
found = diagc.compile(lambda x: torch.relu(layer(x)))(x)
weight, bias = (parameter.full_tensor() for parameter in layer.parameters())
expected = torch.relu(torch.nn.functional.linear(whole[0][:2], weight, bias))
torch.testing.assert_close(found.full_tensor(), expected, rtol=1e-5, atol=1e-5)
dist.destroy_process_group()
"""


def test_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    runs = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), str(SEED)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(told)
