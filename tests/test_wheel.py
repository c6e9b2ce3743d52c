"""The wheel, in an environment of its own: it holds the whole package, and runs the demo and the page."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest
from launched import interruptible
from PIL import Image

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"OMP_NUM_THREADS": "1"}
MADE_OF = ("hmgan", "launch", "registry", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that the checkout stays as it is and what an older build has left there stays out."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in MADE_OF:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "tree" / name)
    # By the setuptools that is here, which torch needs anyway: no package index is asked.
    words = ["wheel", folder / "tree", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    built = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def hmgan(wheel, tmp_path_factory):
    """The installed command. It shares the dependencies; a .pth within their folders is not read from here."""
    folder = tmp_path_factory.mktemp("env") / "env"
    venv.create(folder)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    words = ["--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *words], check=True)
    asked = [folder / "bin" / "python", "-c", "import hmgan; print(hmgan.__file__)"]
    where = subprocess.check_output(asked, cwd=folder, env=ALONE, text=True)
    assert Path(where.strip()) == packages / "hmgan" / "__init__.py"
    return folder / "bin" / "hmgan"


def test_the_wheel_holds_every_file_of_the_package(wheel):
    places = {"hmgan": "hmgan", "launch": "hmgan/launch_files", "registry": "hmgan/registry"}
    files = {
        f"{inside}/{path.relative_to(ROOT / place)}"
        for place, inside in places.items()
        for path in (ROOT / place).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("hmgan/")} == files


def test_an_installed_wheel_trains_the_demo_and_serves_its_page(hmgan, tmp_path):
    settings = ["--set", "train.kimg=0.1", "--set", "evaluation.per_class=20"]
    demo = subprocess.run([hmgan, "demo", *settings], cwd=tmp_path, env=ALONE, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    (run,) = (tmp_path / "demo").iterdir()
    assert f"explore it: hmgan explore {run.relative_to(tmp_path)}\n" in demo.stdout
    assert (run / "report.html").is_file()
    words = [hmgan, "explore", run, "--port", "0", "--no-browser"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=ALONE, stdout=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as page:
        try:
            url = page.stdout.readline().split()[0]
            assert b"<title>" in read(url)
            (model,) = json.loads(read(f"{url}model"))["models"]
            assert model["classes"] == ["sandal", "sneaker", "bag", "ankle-boot"]
            image = read(f"{url}image?model={model['digest']}&classes=2&seeds=7")
            assert Image.open(io.BytesIO(image)).size == (32, 32)
            page.send_signal(signal.SIGINT)
            assert page.wait(60) == 130
        finally:
            page.kill()


def read(url):
    with urlopen(url, timeout=60) as answer:
        return answer.read()
