"""The embedded judge, and the instruments on real digits, repeated digits and mixtures, whose answers are known."""

import hashlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from hmgan.data.pack.embedded import embedded
from hmgan.data.pack.image_folders import contact_sheets
from hmgan.evaluation.references import repeated
from hmgan.metrics.diversity import effective_rank, spread
from hmgan.metrics.features import ASSETS, SideBySide
from hmgan.metrics.leakage import class_kept
from hmgan.metrics.measures import FEATURE_MEASURES
from hmgan.metrics.networks import load_extractor, load_extractors

DIGITS = ("0", "1", "4")


def features(name: str, per_class: int) -> dict[str, torch.Tensor]:
    network, found = load_extractor("judge"), {}
    for item in contact_sheets(embedded(name)).items:
        rows = found.setdefault(item.label, [])
        if item.label in DIGITS and len(rows) < per_class:
            grey = np.pad(np.asarray(Image.open(io.BytesIO(item.read())).convert("L")), 2)
            rows.append(torch.from_numpy(grey.copy()).expand(3, -1, -1))
    return {digit: network(torch.stack(found[digit])) for digit in DIGITS}


@pytest.fixture(scope="module")
def reals() -> dict[str, torch.Tensor]:
    return features("digits-heldout", 100)


@pytest.fixture(scope="module")
def others() -> dict[str, torch.Tensor]:
    return features("digits", 100)


def measured(real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
    names = ("fd", "kd-scaled", "prdc", "rank", "spread")
    return {found.metric: found.value for name in names for found in FEATURE_MEASURES[name](real, fake)}


def test_the_file_is_the_cards_and_the_card_says_what_it_was_taught() -> None:
    folder = ASSETS / "judge"
    config = json.loads((folder / "config.json").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    judge = load_extractor("judge")
    assert (judge.digest, judge.dim, judge.resizer) == (digest, 64, "bicubic-antialias-32")
    assert digest == config["weights_sha256"]
    assert digest in (folder / "README.md").read_text()
    assert config["accuracy"] > 0.8
    assert (folder / "model.safetensors").stat().st_size < 400_000


def test_any_size_of_colour_is_resized_and_32_px_are_taken_as_they_are() -> None:
    judge = load_extractor("judge")
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(judge(images), judge.trunk(images.float()).double())
    assert judge(torch.nn.functional.interpolate(images.float(), scale_factor=3).byte()).shape == (4, 64)
    assert judge(images[:, :, :24, :20]).shape == (4, 64)
    assert not torch.allclose(judge(images), judge(images.flip(1)))


def test_two_extractors_side_by_side_give_what_each_gives_alone() -> None:
    networks = load_extractors("squeezenet,judge,judge")
    assert [network.name for network in networks] == ["squeezenet", "judge"]
    both = SideBySide(networks)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    for part, network in zip(both(images).split(both.dims, dim=1), networks, strict=True):
        assert torch.equal(part, network(images))


@pytest.mark.parametrize("digit", DIGITS)
def test_other_reals_are_the_floor_and_repeated_ones_are_above_it_in_order(reals, others, digit: str) -> None:
    floor, three, one = (
        measured(reals[digit], fake)
        for fake in (others[digit], repeated(others[digit], 3, 100), repeated(others[digit], 1, 100))
    )
    for metric in ("FD", "KD-scaled"):
        assert floor[metric] < three[metric] < one[metric]
    assert floor["recall-k5"] > 0.6
    assert floor["coverage-k5"] > 0.6
    assert floor["spread"] == pytest.approx(1, abs=0.25)
    assert one["recall-k5"] == 0
    assert one["precision-k5"] == 1  # a typical image, which is why no verdict is by precision or distance alone
    assert one["rank"] == one["spread"] == 0
    assert three["rank"] <= 2
    assert 0 < three["spread"] < floor["spread"]


def test_of_a_mixture_of_two_classes_half_is_kept_and_it_is_more_diverse_than_either(reals, others) -> None:
    mixed = {digit: torch.cat([others[digit][:50], others["1" if digit == "0" else "0"][:50]]) for digit in DIGITS}
    kept, kept_reals = class_kept(reals, mixed), class_kept(reals, others)
    assert all(share > 0.9 for share in kept_reals.values())
    assert kept == pytest.approx(dict.fromkeys(DIGITS, 0.5), abs=0.06)
    assert spread(reals["0"], mixed["0"]) > 1.15
    assert effective_rank(mixed["0"]) < effective_rank(reals["0"])  # one direction, between the classes, outweighs


def test_repeated_photographs_are_the_nearest_to_the_mean_in_turn() -> None:
    rows = torch.tensor([[9.0], [1.0], [-1.5], [4.0], [-8.0]])
    assert repeated(rows, 1, 3).flatten().tolist() == [1, 1, 1]
    assert repeated(rows, 2, 5).flatten().tolist() == [1, -1.5, 1, -1.5, 1]
