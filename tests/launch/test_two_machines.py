"""`hmgan launch` on two machines, one rank each, trains what two ranks of one machine train, to the last bit.

And what one process trains on the same global batch, to rounding: tests/dist/test_elastic.py shows what that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import launched
import machines
import pytest
import tiny
import torch
from safetensors.torch import load_file

STEPS, BATCH = 3, 8
OPTIONS = tiny.options(train__trackers="[]", compute__threads=1, loader__mirror="true", task__freeze="[]", r1__every=2)
# Of the tensor's largest entry. Float32: half the batch each is added up in another order, and Adam enlarges it.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def cables():
    reason = machines.impossible()
    if reason:
        pytest.skip(reason)  # two machines are two network namespaces, which take root's rights and a program
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
def on_one_machine(shards, source, _cache, tmp_path_factory):
    """What so many ranks without a network between machines train."""

    def trained(ranks):
        folder = tmp_path_factory.mktemp(f"ranks-{ranks}")
        words = ["train", *arguments(shards, source, folder / "runs")]
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HMGAN_CACHE", str(_cache))
            started = launched.start(words, ranks, folder / "said")
        assert started.codes() == [0] * ranks, started.said()
        (run,) = (folder / "runs").iterdir()
        return weights(run)

    return trained(1), trained(2)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["torchrun", "local"])
def test_two_machines_train_what_one_does(target, cables, on_one_machine, shards, source, tmp_path, capsys):
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
    together, (one_process, two_ranks) = weights(run), on_one_machine
    assert together.keys() == one_process.keys() == two_ranks.keys()
    assert all(torch.equal(together[name], expected) for name, expected in two_ranks.items())
    worst = max(
        float((together[name] - expected).abs().max()) / (float(expected.abs().max()) or 1.0)
        for name, expected in one_process.items()
    )
    with capsys.disabled():
        print(
            f"\n{target}: two ranks of one machine to the bit, one process to {worst:.1e} of a tensor's largest entry"
        )
    assert worst < TOLERANCE
