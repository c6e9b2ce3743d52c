"""Components: registered once, found by name, and a keyword-only signature is the schema."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Literal

import pytest

from hmgan import components
from hmgan.errors import UserError


@pytest.fixture
def registered(monkeypatch):
    """A registry of the test's own, with one component in it."""
    monkeypatch.setattr(components, "_REGISTRY", dict(components._REGISTRY))

    @components.register("modulation", "for-this-test")
    class Toy:
        """A toy."""

        def __init__(
            self,
            part: object,
            *,
            width: int = 4,
            rate: float | Literal["auto"] = "auto",
            mode: Literal["slow", "fast"] = "slow",
            sizes: list[int] | None = None,
            needed: bool,
        ) -> None:
            self.part, self.width, self.rate, self.mode, self.sizes, self.needed = (
                part,
                width,
                rate,
                mode,
                sizes,
                needed,
            )

    yield Toy
    components.schema.cache_clear()


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_a_name_that_is_taken_is_refused_and_keeps_its_component(registered):
    with pytest.raises(ValueError, match=r"^modulation 'for-this-test' is registered already, by test_components$"):
        components.register("modulation", "for-this-test")(int)
    assert components.get("modulation", "for-this-test") is registered


def test_every_number_that_a_component_takes_has_bounds():
    unbounded = set()
    for kind in {kind for kind, _ in components._builtin()}:
        for name in components.names(kind):
            for option, field in components.schema(kind, name).model_fields.items():
                said = f"{field.annotation} {field.metadata}"
                if re.search(r"\b(int|float)\b", said) and not re.search(r"G[et]\(|Interval", said):
                    unbounded.add(option)
    assert unbounded == {"seed", "filter"}  # any number will do for these


@pytest.mark.parametrize(
    ("kind", "name", "option", "value"),
    [
        ("backbone", "stylegan1", "z_dim", 0),
        ("backbone", "stylegan2", "channels", [8, 0]),
        ("backbone", "stylegan3", "output_scale", 0.0),
        ("discriminator", "stylegan2", "clamp", -1.0),
        ("class-net", "mlp", "layers", -1),
        ("modulation", "adafm", "epsilon", -1e-5),
        ("augment", "ada", "every", 0),
        ("engine", "fsdp2", "dp_shard_size", -2),
    ],
)
def test_a_number_beyond_its_bounds_is_one_line(kind, name, option, value):
    said = refusal(components.check, kind, name, {option: value})
    assert said.startswith(f"{kind}.{option}")
    assert "should be greater than" in said
    assert "\n" not in said


def test_one_name_may_serve_two_kinds(registered):
    components.register("class-net", "for-this-test")(int)
    assert components.get("class-net", "for-this-test") is int
    assert components.get("modulation", "for-this-test") is registered


def test_build_passes_parts_and_options_with_defaults_filled_in(registered):
    made = components.build("modulation", "for-this-test", "a part", needed=True, rate=1)
    assert (made.part, made.width, made.rate) == ("a part", 4, 1.0)
    assert (made.mode, made.sizes, made.needed) == ("slow", None, True)


def test_a_wrong_name_shows_the_nearest_and_all():
    assert refusal(components.get, "contrastive", "barlow-twin") == (
        "no contrastive named 'barlow-twin'; did you mean 'barlow-twins'? known: barlow-twins, dcl"
    )
    assert refusal(components.get, "contrastive", "xyz") == "no contrastive named 'xyz'; known: barlow-twins, dcl"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"widht": 3}, "unknown key 'here.widht'; did you mean 'width'? known: mode, needed, rate, sizes, width"),
        ({"zzz": 3}, "unknown key 'here.zzz'; known: mode, needed, rate, sizes, width"),
        ({"width": "3"}, "here.width should be a valid integer, got '3'"),
        ({"width": 3.5}, "here.width should be a valid integer, got 3.5"),
        ({"width": True}, "here.width should be a valid integer, got True"),
        ({"rate": "atuo"}, "here.rate should be a valid number or 'auto', got 'atuo'; did you mean 'auto'?"),
        ({"rate": float("inf")}, "here.rate should be a finite number or 'auto', got inf"),
        ({"mode": "fsat"}, "here.mode should be 'slow' or 'fast', got 'fsat'; did you mean 'fast'?"),
        ({"mode": 7}, "here.mode should be 'slow' or 'fast', got 7"),
        ({"sizes": [1, "b"]}, "here.sizes.1 should be a valid integer, got 'b'"),
        ({"sizes": 3}, "here.sizes should be a valid list, got 3"),
        ({"part": 1}, "unknown key 'here.part'; did you mean 'rate'? known: mode, needed, rate, sizes, width"),
    ],
)
def test_a_wrong_option_is_one_line(registered, options, text):
    got = refusal(components.check, "modulation", "for-this-test", {"needed": True, **options}, where="here")
    assert got == text


def test_a_missing_option_is_one_line(registered):
    got = refusal(components.build, "modulation", "for-this-test", None)
    assert got == "modulation.needed is missing; set it, for example --set modulation.needed=..."


def test_a_name_of_the_packages_own_is_taken_before_its_module_is_imported(registered):
    class Mine:
        """Of another package."""

    with pytest.raises(ValueError, match=r"^engine 'fsdp2' is registered already, by hmgan.train.engines.fsdp2$"):
        components.register("engine", "fsdp2")(Mine)


PLUGIN = """
from torch import nn
from hmgan.components import register

@register("contrastive", "from-elsewhere")
class Elsewhere(nn.Module):
    \"\"\"Nothing at all.\"\"\"
    def __init__(self, *, strength: float = 2.0) -> None:
        super().__init__()
        self.strength = strength
    def forward(self, evidence):
        return self.strength * evidence.real_logit_B.sum()
"""
ASK = """
from hmgan import components
from hmgan.config.loading import load_experiment
print(*components.names("contrastive"))
print(load_experiment("hyper-mod-b", ["contrastive=from-elsewhere"]).contrastive)
"""


def test_an_installed_distribution_adds_components_by_entry_point(tmp_path):
    (tmp_path / "elsewhere.py").write_text(PLUGIN)
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hmgan.components]\nelsewhere = elsewhere\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["barlow-twins dcl from-elsewhere", "name='from-elsewhere' strength=2.0"]
