"""`hmgan doctor`: one page, an exit code, and one line per problem that says what to do."""

from __future__ import annotations

import io
import os
import socket

import launched
import pytest
import tiny
from rich.console import Console

from hmgan.config.settings import Data
from hmgan.doctor import network, page, storage
from hmgan.doctor.devices import RankDevice, devices
from hmgan.doctor.environment import environment
from hmgan.doctor.memory import fit
from hmgan.doctor.probe import ProbeResult, rate
from hmgan.doctor.software import software
from hmgan.train.dryrun import Footprint
from hmgan.units import GIB, MIB

HOST = RankDevice("a", "CPU", 8 * GIB, 16 * GIB, gpus=0, cores=8, threads=8, shared=4 * GIB)
GPU = RankDevice("a", "H100", 70 * GIB, 80 * GIB, gpus=2, cores=16, threads=8, shared=4 * GIB)


def test_a_page_of_a_healthy_machine(shards, source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("NCCL_API_KEY", "hidden")
    monkeypatch.setattr(storage, "SLOW_DISK", 0)
    words = ["--source", source, "--data", shards, "--batch", 4, "--outdir", tmp_path / "runs"]
    assert tiny.command("doctor", "hyper-mod-b", *words) == 0
    shown = capsys.readouterr().out
    for title in ("versions", "devices", "network", "storage", "variables", "memory"):
        assert f"{title} ok ─" in shown
    assert "36 images of 8 px; reads " in shown
    assert "NCCL_DEBUG" in shown
    assert "hidden" not in shown
    assert "4 images at once" in shown
    assert shown.splitlines()[-1] == "healthy"
    assert len(shown.splitlines()) < 40
    assert not list(tmp_path.iterdir())


def test_problems_are_lines_of_their_own_and_the_exit_code_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(storage, "SLOW_DISK", 0)
    monkeypatch.chdir(tmp_path)
    assert tiny.command("doctor", "--data", "./nowhere", "--outdir", ".") == 1
    lines = capsys.readouterr().out.splitlines()
    (problem,) = (line for line in lines if line.startswith("! "))
    assert problem.startswith("! --data ./nowhere: ./nowhere is not a packed data set: ")
    assert lines[-1] == "not healthy: 1 problem, marked with ! above"


def test_a_setting_that_does_not_exist_is_refused_as_everywhere(capsys):
    assert tiny.command("doctor", "hyper-mod-b", "--set", "train.kimgs=1") == 2
    assert capsys.readouterr().err.startswith("error: unknown key 'train.kimgs'; did you mean 'kimg'?")


@pytest.fixture
def two_ranks(tmp_path):
    started = []

    def begin(prepare):
        ranks = launched.start(["doctor", "--outdir", tmp_path], 2, tmp_path / "said", prepare)
        started.append(ranks)
        codes = ranks.codes(180)
        assert codes[0] == codes[1] in (0, 1), ranks.said()
        return codes[0], *ranks.said()

    yield begin
    for ranks in started:
        ranks.kill()


def wide():
    os.environ["COLUMNS"] = "100"


def by_an_absent_interface():
    wide()
    os.environ["GLOO_SOCKET_IFNAME"] = "nowhere0"


def test_two_ranks_measure_the_network_between_them(two_ranks):
    _, first, second = two_ranks(wide)
    assert second == ""
    assert ", 2 ranks, " in first.splitlines()[0]
    assert f"2 on {socket.gethostname()} (2)" in first
    assert "all-reduce  4 B in " in first
    assert " ms of rank 0's" in first


def test_ranks_that_cannot_be_joined_are_one_page_that_says_why(two_ranks):
    code, first, second = two_ranks(by_an_absent_interface)
    assert (code, second) == (1, "")
    assert ", 2 ranks, " in first.splitlines()[0]
    assert "! GLOO_SOCKET_IFNAME=nowhere0 is no interface of this machine, which has " in first
    assert "! the ranks cannot be joined: " in first


def test_versions_that_differ_between_ranks_are_named():
    section = software([{"torch": "2.13", "python": "3.11"}, {"torch": "2.13", "python": "3.12"}])
    assert section.problems == ["python is 3.11 on rank 0 and 3.12 on rank 1; install the same everywhere"]


@pytest.mark.parametrize(
    ("ranks", "problem"),
    [
        ([GPU, GPU, GPU], "3 ranks share 2 GPUs of a; start one rank per GPU"),
        ([HOST, HOST], "2 ranks with 8 threads each share 8 cores of a; set OMP_NUM_THREADS=4"),
        (
            [GPU, GPU._replace(host="b", name="A100", total=40 * GIB)],
            "ranks have unlike devices, and all wait for the slowest; give them like ones",
        ),
        (
            [GPU._replace(shared=64 * MIB)] * 2,
            "/dev/shm of a has 64.0 MiB, too little for NCCL and for loader.workers; give the container more "
            "(--shm-size=8g, or an emptyDir of medium Memory)",
        ),
    ],
)
def test_ranks_that_stand_in_each_others_way(ranks, problem):
    assert devices(ranks).problems == [problem]


def test_ranks_with_enough_of_everything_are_no_problem():
    assert devices([GPU, GPU]).problems == []
    assert devices([HOST]).problems == []
    assert devices([HOST, HOST._replace(host="b")]).problems == []


@pytest.mark.parametrize(
    ("state", "rank", "end"),
    [
        (
            4 * GIB,
            HOST,
            "needs 16.0 GiB, and the CPU of rank 0 has 8.0 GiB free; set compute.engine = zero2 or fsdp2, take ",
        ),
        (1 * GIB, HOST, "needs 10.0 GiB, and the CPU of rank 0 has 8.0 GiB free; lower --batch"),
        (69 * GIB, GPU, "needs 73.0 GiB, and the H100 of rank 0 has 70.0 GiB free; lower --batch"),
        (4 * GIB, GPU, ""),
    ],
)
def test_what_does_not_fit_says_how_much_is_missing(state, rank, end):
    result = fit("mine", Footprint(state, 4 * GIB), 8, [rank, rank])
    assert len(result.problems) == bool(end)
    assert not end or result.problems[0].startswith(f"mine {end}")


def test_an_interface_that_is_not_there_is_named_before_gloo_times_out(tmp_path):
    for name in ("eth0", "lo"):
        (tmp_path / name).mkdir()
    wrong = environment({"GLOO_SOCKET_IFNAME": "eth1"}, tmp_path)
    assert wrong.rows == [("GLOO_SOCKET_IFNAME", "eth1")]
    assert wrong.problems == [
        "GLOO_SOCKET_IFNAME=eth1 is no interface of this machine, which has eth0, lo; name one of them"
    ]
    assert environment({"GLOO_SOCKET_IFNAME": "eth0"}, tmp_path).problems == []
    assert environment({"PATH": "x"}, tmp_path).rows[0][0] == "none set"


def test_a_store_is_read_by_its_url_and_what_cannot_be_read_says_why(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(3 * MIB))
    found = storage.storage(tmp_path, Data(sources=[f"file://{tmp_path}"]), probe=2 * MIB)
    assert found.rows[3][1].startswith("1 objects; reads ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        problem = storage.storage(tmp_path, Data(sources=[f"file://{tmp_path}/{name}"]), probe=MIB).problems[-1]
        assert problem == f"--data file://{tmp_path}/{name} holds no objects; give the folder that the index lies in"
    unknown = storage.storage(tmp_path, Data(sources=["nostore://bucket/shards"]), probe=MIB).problems[-1]
    assert unknown.startswith(
        "--data nostore://bucket/shards cannot be read: nostore://bucket/shards cannot be opened: "
    )


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (problem,) = storage.storage(tmp_path, None, probe=MIB).problems
    assert problem == f"--outdir {tmp_path} cannot be written: No space left on device; give another one"
    assert not list(tmp_path.iterdir())


def test_slow_storage_is_a_problem(monkeypatch, tmp_path, shards):
    monkeypatch.setattr(storage, "SLOW_DISK", 1e15)
    monkeypatch.setattr(storage, "LEAST_FREE", 1e15)
    free, slow = storage.storage(tmp_path, Data(sources=[str(shards)]), probe=MIB).problems
    assert free.startswith(f"--outdir {tmp_path} has ")
    assert slow.endswith("and checkpoints wait for it; give another one")


def test_rates_read_well():
    assert rate(3 * MIB, 2.0) == "1.5 MiB/s"
    assert network.LARGE % 4 == 0


def test_nothing_of_the_page_is_lost_in_a_narrow_terminal():
    file = io.StringIO()
    sections = [ProbeResult("storage", [("--data x", "word " * 20)], ["one two " * 20])]
    page.show("title", sections, Console(width=40, file=file))
    words = file.getvalue().split()
    assert (words.count("word"), words.count("one"), words.count("two")) == (20, 20, 20)
    assert max(map(len, file.getvalue().splitlines())) <= 40
