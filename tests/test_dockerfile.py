"""The Dockerfile: exact versions, no rights, no secrets, and all that the package is built from."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
STEPS = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()


def steps(name: str) -> list[str]:
    return [step.removeprefix(f"{name} ") for step in STEPS if step.startswith(f"{name} ")]


def test_the_base_is_an_exact_version_of_a_python_that_the_package_takes():
    (base,) = steps("FROM")
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+", base)
    assert version is not None
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert tuple(map(int, version[1].split("."))) >= tuple(map(int, least.removeprefix(">=").split(".")))


def test_hadolint_has_nothing_against_it():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_packages_are_those_that_are_tested():
    (run,) = steps("RUN")
    assert "-c constraints.txt ." in run
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.+!-]+( ;.*)?", line) for line in constraints())


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def test_it_runs_as_a_user_without_rights_from_its_last_step_on():
    names = [step.partition(" ")[0] for step in STEPS if step]
    assert steps("USER") == ["1000"]
    assert "RUN" not in names[names.index("USER") :]
    assert steps("ENTRYPOINT") == ['["hmgan"]']


def test_no_secret_can_get_into_it():
    assert not re.search(r"(?i)token|password|secret|credential|_key\b", TEXT)
    assert not steps("ENV")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"  # what is not named does not go in
    assert "!.git" not in ignored
    assert all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!"))


@pytest.mark.parametrize(("device", "code"), [("cpu", 0), ("cuda", 0), ("rocm", 1)])
def test_the_device_is_one_that_there_is(device, code, tmp_path):
    script = steps("RUN")[0].partition(" && pip install")[0] + ' && echo "${index[@]}"'
    (tmp_path / "constraints.txt").write_text("torch==2.0.0+cpu\n")
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env={"DEVICE": device}, capture_output=True, text=True)
    assert done.returncode == code
    assert ("whl/cpu" in done.stdout) is (device == "cpu")
    assert ("+cpu" in (tmp_path / "constraints.txt").read_text()) is (device != "cuda")
