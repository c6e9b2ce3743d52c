"""`hmgan launch` on two machines, one rank each, trains what one process trains on the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import machines
import pytest
import tiny
import torch
from safetensors.torch import load_file

STEPS, BATCH = 3, 8
OPTIONS = tiny.options(train__trackers="[]", train__threads=1, train__mirror="true", train__freeze="[]", r1__every=2)
# Of the tensor's largest entry. Float32: half the batch each is added up in another order, and Adam enlarges it.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def cables():
    reason = machines.impossible()
    if reason:
        pytest.skip(reason)
    with machines.two() as made:
        yield made


def arguments(shards: Path, source: Path, outdir: Path) -> list[str]:
    where = ["--data", shards, "--source", source, "--outdir", outdir, "--batch", BATCH]
    return list(map(str, ["hyper-mod-b", *where, "--kimg", STEPS * BATCH / 1000, *OPTIONS]))


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor that a run keeps: of its checkpoint and of its snapshot."""
    files = sorted(run.rglob("*.safetensors"))
    assert {path.relative_to(run).parts[0] for path in files} == {"checkpoints", "snapshots"}
    return {
        f"{path.relative_to(run)}/{key}": value.double() for path in files for key, value in load_file(path).items()
    }


@pytest.fixture(scope="module")
def alone(shards, source, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("alone")
    assert tiny.command("train", *arguments(shards, source, outdir)) == 0
    (run,) = outdir.iterdir()
    return weights(run)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["torchrun", "local"])
def test_two_machines_train_what_one_process_does(target, cables, alone, shards, source, tmp_path):
    command = [sys.executable, "-m", "hmgan", "launch", "--target", target, "--nodes", "2", "--gpus", "1"]
    nodes = []
    try:
        for rank, machine in enumerate(cables):
            own = {"NODE_RANK": str(rank), "MASTER_ADDR": cables[0].address, "GLOO_SOCKET_IFNAME": machine.interface}
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **own}
            words = [*machine.inside, *command, *arguments(shards, source, tmp_path / "runs")]
            nodes.append(
                subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        told = [node.communicate(timeout=900) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(err for _, err in told)
    # The world size: two ranks, and one run.
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == f"00000-hyper-mod-b-shards-8-gpus2-batch{BATCH}"
    together = weights(run)
    assert together.keys() == alone.keys()
    worst = max(
        float((together[name] - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
        for name, expected in alone.items()
    )
    print(f"{target}: {worst:.1e} of a tensor's largest entry")
    assert worst < TOLERANCE
