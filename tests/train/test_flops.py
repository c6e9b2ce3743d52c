"""Operations of a step: what is counted is what runs, and counting changes none of it."""

from __future__ import annotations

import json
import re

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from hmgan.train import trainer
from hmgan.train.flops import Counting, Work, peak
from hmgan.train.log import operations
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training


def counted(act):
    with Counting() as counting:
        act()
    return counting.flops


def test_products_and_convolutions_count_as_torch_counts_them_in_both_directions():
    x, w = torch.randn(2, 4, 9, 9, requires_grad=True), torch.randn(6, 4, 3, 3, requires_grad=True)
    t, m = torch.randn(4, 5, 4, 4, requires_grad=True), torch.randn(3, 324, requires_grad=True)

    def act():
        maps = F.conv2d(x, w, stride=2, padding=1).sum() + F.conv_transpose2d(x, t, stride=2).sum()
        products = F.linear(x.flatten(1), m, torch.ones(3)).sum() + (x[0] @ x[1]).sum() + (m @ m.T).sum()
        (maps + products).backward()

    with FlopCounterMode(display=False) as theirs:
        act()
    assert counted(act) == theirs.get_total_flops() > 0


@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_in_groups_counts_as_many_as_its_groups_one_by_one(transposed):
    convolve = F.conv_transpose2d if transposed else F.conv2d
    x_BCHW, weight = torch.randn(2, 6, 5, 5), torch.randn(6, 2, 3, 3)

    def whole():
        convolve(x_BCHW.requires_grad_(), weight.requires_grad_(), groups=3).sum().backward()

    def in_parts():
        for x, w in zip(x_BCHW.detach().split(2, 1), weight.detach().split(2), strict=True):
            convolve(x.requires_grad_(), w.requires_grad_()).sum().backward()

    assert counted(whole) == counted(in_parts) == 3 * counted(lambda: convolve(x_BCHW.detach(), weight, groups=3))


def test_a_penalty_counts_in_the_steps_in_which_it_is_due(shards, source):
    def step_of(every):
        trainer = tiny.make_trainer(tiny.transfer(shards, source, f"r1.every={every}"), source)
        batches, found = trainer.batches(), []
        for _ in range(2):
            found.append(counted(lambda: trainer.take_step(next(batches))))
            trainer.step += 1
        return trainer.task.round, found

    (never, plain), (second, lazy) = step_of(0), step_of(2)
    assert (never, second) == (1, 2)
    assert plain[0] < lazy[0]
    assert plain[1] == lazy[1]


def test_a_path_length_has_its_turn_in_a_round(shards, tmp_path):
    source = tiny.write_source(tmp_path / "source", backbone="stylegan2")
    experiment = tiny.transfer(shards, source, "task.path_length=2.0", "task.path_every=6", "r1.every=4")
    assert prepare(experiment).task.round == 12


def test_speed_is_the_mean_of_a_round_over_the_time_of_a_step():
    work, product = Work(2, 0.5, 4.0), torch.ones(100, 100)
    for size in (100, 50, 100):
        assert (work.speed(1.0) == {}) == (size != 100 or work._left == 2)
        with work.counted():
            product[:size] @ product
    tera = 1.5 * 100**3 / 1e12  # 2 n^3 and half of it; the third step is not counted
    assert work.speed(1.0) == {"tflops": pytest.approx(tera / 0.5), "peak_share": pytest.approx(tera / 2)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"tflops": 312.44, "peak_share": 0.3159}, "  TFLOP/s 312 (32% of peak)"),
        ({"tflops": 0.0384}, "  TFLOP/s 0.0384"),
        ({"kimg": 1.0}, ""),
    ],
)
def test_a_status_line_says_it_with_the_share_of_peak_where_that_is_known(line, said):
    assert operations(line) == said


def test_a_run_says_its_speed_once_a_round_is_counted_and_computes_the_same(shards, source, tmp_path, monkeypatch):
    settings = ("train.kimg=0.016", "train.tick=0.004", "r1.every=2", "optimizer.lr=0.1")
    prepared = prepare(tiny.transfer(shards, source, *settings))

    def lines(name):
        (tmp_path / name).mkdir()
        run = run_training(prepare(prepared.experiment), tmp_path / name)
        return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]

    counted = lines("counted")
    monkeypatch.setattr(trainer, "work_of", lambda *_: Work(0, 0.004, None))
    uncounted = lines("uncounted")
    assert [line.pop("tflops", 0.0) > 0 for line in counted] == [False, True, True, True]
    assert not any("tflops" in line for line in uncounted)
    own = {"seconds", "sec_per_kimg", "mem_gib"}
    assert [{k: line[k] for k in line.keys() - own} for line in counted] == [
        {k: line[k] for k in line.keys() - own} for line in uncounted
    ]
    log = (tmp_path / "counted" / "log.txt").read_text()
    assert len(re.findall(r"^kimg .*  TFLOP/s \d", log, re.MULTILINE)) == (3 if torch.cuda.is_available() else 0)


@pytest.mark.parametrize(
    ("name", "most"),
    [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 NVL", 835.0), ("NVIDIA H200", 989.0), ("Some GPU", None)],
)
def test_the_peak_is_of_a_device_that_is_known_and_of_bfloat16(name, most, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak(torch.device("cuda"), "bf16") == most
    assert peak(torch.device("cuda"), "float32") is None
    assert peak(torch.device("cpu"), "bf16") is None
