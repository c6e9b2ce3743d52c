"""Path lengths of generators whose answer is known, and of the tiny transfer."""

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.evaluation.paths import EPSILON, draws, path_lengths, trimmed_mean
from hmgan.train.prepare import prepare
from hmgan.types import GenOut, Latents

CLASSES, WIDTH = 4, 5


class Toy(nn.Module):
    """Images that are z and noise, plus a map of the class vector raised to a power: 3 x 4 x 4 pixels."""

    def __init__(self, power: int = 1, gain: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.power = power
        self.trained = nn.ModuleDict({"class_net": nn.Embedding(CLASSES, WIDTH)})
        self.map = nn.Parameter(gain * torch.randn(WIDTH, 48))

    def latents(self, keys: list[int]) -> Latents:
        rows = torch.stack([torch.randn(64, generator=torch.Generator().manual_seed(k)) for k in keys])
        return Latents(rows[:, :48], (rows[:, 48:].view(-1, 1, 4, 4),), rows[:, :48], torch.zeros(len(keys)).long())

    def edits_of(self, v_RE: Tensor) -> Tensor:
        return v_RE**self.power @ self.map

    def render(self, latents: Latents, edits: Tensor, row_B: Tensor, truncation: float = 1.0) -> GenOut:
        style = latents.z.view(-1, 3, 4, 4) + latents.noise[0]
        return GenOut(style + edits[row_B].view(-1, 3, 4, 4), ())


def squared(a: Tensor, b: Tensor) -> Tensor:
    assert a.dtype == b.dtype == torch.float64
    return (a - b).square().sum(dim=(1, 2, 3))


def lengths(generator: Any, mode: Any, pairs: int = 30, seed: int = 0, classes: int = CLASSES) -> Tensor:
    return path_lengths(generator, squared, classes, end=mode == "end", pairs=pairs, seed=seed)


def ends(generator: Toy, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    from_P, to_P, t_P = draws(CLASSES, pairs, 0)
    table = generator.trained["class_net"].weight.detach().double()
    return table[from_P], table[to_P], t_P[:, None]


@pytest.mark.parametrize("mode", ["full", "end"])
@pytest.mark.parametrize("gain", [0.1, 1e-4])
def test_of_a_linear_generator_it_is_the_squared_step_whatever_z_and_noise(mode: str, gain: float) -> None:
    """|A (v_b - v_a)|^2. In float32 a step of 1e-4 * gain would drown in the rounding of images of size 1."""
    generator = Toy(gain=gain)
    a, b, _ = ends(generator, 30)
    expected = (127.5 * (b - a) @ generator.map.detach().double()).square().sum(dim=1)
    torch.testing.assert_close(lengths(generator, mode), expected, rtol=1e-6, atol=0)


def test_end_steps_at_the_class_and_full_where_t_is() -> None:
    """Of v^2 the derivative is 2 v(t) (v_b - v_a)."""
    generator = Toy(power=2)
    a, b, t = ends(generator, 30)
    matrix = 127.5 * generator.map.detach().double()
    for mode, at in (("end", a), ("full", a + t * (b - a))):
        expected = ((2 * at * (b - a) + EPSILON * (b - a) ** 2) @ matrix).square().sum(dim=1)
        torch.testing.assert_close(lengths(generator, mode), expected, rtol=1e-6, atol=0)


def test_a_generator_that_ignores_the_class_has_length_zero() -> None:
    """Other z or noise at the two ends would give about 1 / epsilon^2."""
    assert lengths(Toy(gain=0.0), "full").abs().max() == 0


def test_pairs_repeat_by_seed_join_distinct_classes_and_visit_all_alike() -> None:
    from_P, to_P, t_P = draws(CLASSES, 48, 0)
    ordered = list(zip(from_P.tolist(), to_P.tolist(), strict=True))
    assert {pair: ordered.count(pair) for pair in ordered} == {
        (a, b): 4 for a in range(CLASSES) for b in range(CLASSES) if a != b
    }
    assert 0 <= t_P.min() < 0.2
    assert 0.8 < t_P.max() < 1
    assert torch.equal(draws(CLASSES, 10, 0)[2], t_P[:10])
    assert not torch.equal(draws(CLASSES, 48, 1)[2], t_P)


def test_two_classes_will_do_and_the_generator_stays_as_it_was() -> None:
    generator = Toy()
    assert len(lengths(generator, "full", pairs=9, classes=2)) == 9
    assert generator.map.dtype == torch.float32


def test_the_outer_percentiles_do_not_count() -> None:
    x = torch.arange(1000.0, dtype=torch.float64)
    x[999], x[0] = 1e12, -1e12
    assert trimmed_mean(x) == pytest.approx(499.5)
    assert trimmed_mean(torch.tensor([3.0], dtype=torch.float64)) == 3


@pytest.mark.parametrize("name", ["hyper-mod-b", "adain", "gan-memory"])
def test_a_transfers_length_is_finite_repeats_and_does_not_depend_on_the_batch(
    shards, source, name, monkeypatch
) -> None:
    generator = prepare(tiny.transfer(shards, source, name=name)).networks.generator
    with torch.no_grad():  # heads that start at the source know no classes yet
        for parameter in generator.trained.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    first = lengths(generator, "full", pairs=6, classes=3)
    assert bool(torch.isfinite(first).all())
    assert first.min() > 0
    torch.testing.assert_close(lengths(generator, "full", pairs=4, classes=3), first[:4])
    monkeypatch.setattr("hmgan.evaluation.paths.BATCH", 1)
    torch.testing.assert_close(lengths(generator, "full", pairs=4, classes=3), first[:4], rtol=1e-5, atol=0)


def test_one_class_and_no_pairs_are_user_errors() -> None:
    with pytest.raises(UserError, match="a path between classes needs 2 classes or more, got 1; leave ppl out"):
        lengths(Toy(), "end", classes=1)
    with pytest.raises(UserError, match="needs 1 pair of images or more, got 0"):
        lengths(Toy(), "end", pairs=0)
