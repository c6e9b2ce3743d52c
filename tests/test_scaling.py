"""The scaling model's terms against sums by hand, and the bench that measures ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import scaling_model as model  # noqa: E402

LINKS = model.Links("made up", gpus=4, inside=100.0, outside=10.0, hop_inside=1.0, hop_outside=5.0)


@pytest.mark.parametrize(
    ("ranks", "seconds"),
    [
        (2, 2 * 1 / 2 * 80 / 100 + 2 * 1),  # two GPUs of a machine, one hop there and one back
        (4, 2 * 3 / 4 * 80 / 100 + 2 * 2),
        (8, 2 * 3 / 4 * 80 / 100 + 2 * 1 / 2 * 80 / (4 * 10) + 2 * 2 + 2 * 5),
        (16, 2 * 3 / 4 * 80 / 100 + 2 * 3 / 4 * 80 / (4 * 10) + 2 * 2 + 2 * 2 * 5),
    ],
)
def test_a_reduction_takes_what_its_equation_says(ranks, seconds):
    assert model.reduction(80, LINKS, ranks) == pytest.approx(seconds)


def test_rows_take_what_their_equation_says():
    size = 4 * 8 * 2 * (3 + 4 * model.EMBEDDING)
    assert model.rows(2, LINKS, 8) == pytest.approx(12 * (2 * 2 + 2 * 5) + 3 * 7 / 8 * size / 10)


def test_above_64_ranks_sums_of_products_travel_in_place_of_embeddings():
    f, hops = model.EMBEDDING, 2 * 2 + 2 * 5 * 5  # 128 ranks are 32 machines
    logits = 4 * hops + 3 * 127 / 128 * 4 * 128 * 2 * 3 / 10
    reduced = [2 * 3 / 4 * 4 * x / 100 + 2 * 31 / 32 * 4 * x / (4 * 10) + hops for x in (3 * f, (f + 2) * f)]
    assert model.rows(2, LINKS, 128) == pytest.approx(logits + 4 * sum(reduced))


def test_one_rank_communicates_nothing():
    assert model.reduction(80, LINKS, 1) == 0
    assert model.rows(8, LINKS, 1) == 0


def test_the_gradients_are_those_of_the_parameters_that_train():
    full, disc = model.sizes("full", 8, 3)
    low, same = model.sizes("low-rank", 8, 3)
    sites = 3  # one 3x3 of 512 by 512 at 4 px, two at 8 px
    # Two tables and a bias per site, each with 64 weights and a bias, and the class network.
    table, bias = 512 * 512 * 65, 512 * 65
    assert full == 4 * (sites * (2 * table + bias) + 3 * 64 + 4 * (64 * 64 + 64))
    assert low < full / 20
    assert disc == same


@pytest.mark.slow
def test_the_bench_measures_one_rank_and_two(tmp_path):
    command = [sys.executable, str(SCRIPTS / "bench_scaling.py"), "--engine", "replicated", "--scaling", "weak"]
    size = ["--channels", "16", "--resolution", "8", "--repeats", "2", "--batch", "4", "--json", str(tmp_path / "out")]
    subprocess.run([*command, *size], check=True, timeout=600)
    one, two = json.loads((tmp_path / "out").read_text())["rows"]
    assert (one["ranks"], one["batch"], two["ranks"], two["batch"]) == (1, 4, 2, 8)
    assert one["collective_share"] == 0 < two["collective_share"] < 1
    # Logits and four views, with their gradients; G's logits, with theirs; and one reduction for each network.
    assert (one["collectives_per_step"], two["collectives_per_step"]) == (0, 14)
    assert one["efficiency"] == 1
    assert two["efficiency"] == pytest.approx(two["images_per_second"] / 2 / one["images_per_second"])
