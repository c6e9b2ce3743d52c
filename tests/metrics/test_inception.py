"""TorchScript extractors by path and URL: the hash decides, and the names follow it. A tiny network stands in."""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tomli_w
import torch
from torch import Tensor, nn

from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.evaluation.score import class_scores
from hmgan.metrics import inception
from hmgan.metrics.networks import load_extractor


class TinyInception(nn.Module):
    """The interface of the real one: any size, any dtype in 0..255, its own resizing, features or class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 5)

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        x = nn.functional.interpolate(img.to(torch.float32), (2, 2), mode="bilinear").flatten(1) / 255
        return x if return_features else self.head(x)


@pytest.fixture(scope="module")
def raw() -> bytes:
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(TinyInception()), held)
    return held.getvalue()


@pytest.fixture
def script(raw: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pt"
    path.write_bytes(raw)
    return path


def add_entry(folder: Path, **table: object) -> None:
    """A registry with the extractor `tiny`."""
    (folder / "registry" / "extractors").mkdir(parents=True)
    (folder / "registry" / "extractors" / "tiny.toml").write_text(tomli_w.dumps(table))
    entries.add(folder / "registry")


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def images(n: int = 20) -> Tensor:
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_a_file_of_the_right_hash_is_loaded_and_gives_features_in_float64(raw, script, tmp_path) -> None:
    add_entry(tmp_path, path="../../tiny.pt", sha256=sha(raw), dim=12)
    extractor = load_extractor("tiny")
    features = extractor(images())
    assert (features.dtype, features.shape) == (torch.float64, (20, 12))
    expected = TinyInception()(images(), return_features=True).double()
    torch.testing.assert_close(features, expected)
    assert (extractor.name, extractor.digest, extractor.resizer) == ("tiny", sha(raw), "none-before-the-network")
    assert not any(weight.requires_grad for weight in extractor.parameters())


def test_any_place_of_the_file_will_do_if_the_hash_is_the_entrys(raw, script, tmp_path) -> None:
    add_entry(tmp_path, url="https://nowhere.invalid/tiny.pt", sha256=sha(raw), dim=12)
    assert load_extractor(f"tiny:{script}").digest == sha(raw)
    script.write_bytes(raw + b"\0")
    with pytest.raises(UserError, match=f"hashes to .{{12}}, the entry says {sha(raw)[:12]}; it was not loaded"):
        load_extractor(f"tiny:{script}")
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); give NAME:PATH"):
        load_extractor("tiny:nowhere.pt")


def test_a_wrong_hash_is_refused_before_anything_of_the_file_runs(script, tmp_path, monkeypatch) -> None:
    add_entry(tmp_path, path="../../tiny.pt", sha256="0" * 64, dim=12)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match="a TorchScript file is code that runs"):
        load_extractor("tiny")


@pytest.fixture
def served(script, monkeypatch) -> Iterator[str]:
    """The URL of the file on a server of this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(script.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{script.name}"
        server.shutdown()


def test_a_url_is_downloaded_once_and_kept_whole(raw, script, served, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    add_entry(tmp_path, url=served, sha256=sha(raw), dim=12)
    assert load_extractor("tiny").digest == sha(raw)
    script.unlink()
    assert load_extractor("tiny").digest == sha(raw)
    (kept,) = (tmp_path / "cache" / "extractors").iterdir()
    assert kept.name == f"{sha(raw)}.pt"
    assert kept.stat().st_mode & 0o777 == 0o644  # others may share the cache


def test_a_download_of_another_file_or_of_none_leaves_nothing_behind(script, served, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    add_entry(tmp_path, url=served, sha256="0" * 64, dim=12)
    with pytest.raises(UserError, match=r"has not the hash that the entry says, 000000000000; it was not kept"):
        load_extractor("tiny")
    script.unlink()
    with pytest.raises(UserError, match=r"could not be downloaded \(404 .* give NAME:PATH"):
        load_extractor("tiny")
    assert not list((tmp_path / "cache" / "extractors").iterdir())


def test_only_the_official_hash_makes_a_score_fid(raw, script, tmp_path, monkeypatch) -> None:
    add_entry(tmp_path, path="../../tiny.pt", sha256=sha(raw), dim=12)
    features = load_extractor("tiny")(images())
    sets = {"a": features[:10]}, {"a": features[10:]}
    assert {s.metric for s in class_scores(*sets, load_extractor("tiny"))} == {"FD-tiny", "KD-tiny"}
    monkeypatch.setattr(inception, "OFFICIAL", sha(raw))
    found = {s.metric for s in class_scores(*sets, load_extractor("tiny"), ("fd", "kd", "kd-subsets", "prdc"))}
    assert found >= {"FID", "KID", "KID-subsets", "KID-subsets-std", "recall-k3-tiny"}
    assert not [name for name in found if name.startswith(("FD", "KD"))]


def test_the_shipped_entry_is_the_official_file(tmp_path) -> None:
    assert entries.entry("extractor", "inception")["sha256"] == inception.OFFICIAL
    other = tmp_path / "other.pt"
    other.write_bytes(b"something else")
    with pytest.raises(UserError, match=f"the entry says {inception.OFFICIAL[:12]}"):
        load_extractor(f"inception:{other}")


def test_wrong_entries_files_and_widths_are_user_errors(raw, script, tmp_path) -> None:
    add_entry(tmp_path, path="../../tiny.pt", sha256=sha(raw), dim=11)
    with pytest.raises(UserError, match=r"gave features \[2, 12\], its entry says dim = 11"):
        load_extractor("tiny")(images(2))
    script.write_bytes(b"no archive")
    entry = tmp_path / "registry" / "extractors" / "tiny.toml"
    entry.write_text(tomli_w.dumps({"path": "../../tiny.pt", "sha256": sha(b"no archive"), "dim": 12}))
    with pytest.raises(UserError, match=r"tiny\.pt is no TorchScript file"):
        load_extractor("tiny")
    for table, text in (
        ({"path": "a", "url": "b"}, "needs one of asset, path and url"),
        ({"path": "a", "dim": 12}, "needs sha256 in 64 hexadecimal digits"),
        ({"path": "a", "dim": 12, "sha256": "abc"}, "needs sha256 in 64 hexadecimal digits"),
        ({"path": "a", "sha256": "0" * 64}, "needs dim, the number of features"),
    ):
        entry.write_text(tomli_w.dumps(table))
        with pytest.raises(UserError, match=text):
            load_extractor("tiny")
    with pytest.raises(UserError, match="extractor squeezenet is embedded and takes no file"):
        load_extractor("squeezenet:x.pt")
