"""No password, key or token reaches an output, whatever the verb and wherever its URL stands."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny
from pydantic import ValidationError

from hmgan.config.loading import data_of
from hmgan.config.settings import Data
from hmgan.data.named import open_data
from hmgan.doctor.environment import environment
from hmgan.errors import UserError, redacted

SECRET = "s3cr3t"
URLS = [
    f"https://me:{SECRET}@example.org/x",
    f"https://b.example.org/x?X-Amz-Signature={SECRET}",
    f"s3://AKIA:abc/{SECRET}@bucket/x",
    f"s3://{SECRET}@bucket/x",
    f"https://me:p#{SECRET}@example.org/x",
    f"https://me:12/{SECRET}@example.org/x",
    f"az://container/x?sv=2020&sig={SECRET}%3D",
    f"https://example.org/x?sig=ab@{SECRET}",
    f"https://me:a'{SECRET}@example.org/x",
    f"abfss://container:{SECRET}@account.dfs.core.windows.net/x",
    f"abfss://container@account.dfs.core.windows.net/x?sig={SECRET}",
    f"abfss://c0ntainer@me:{SECRET}@account.dfs.core.windows.net/x",
]
PLAIN = [
    "s3://bucket/user@example.org/x",
    "http://[::1]:9000/x: the store failed",
    "['gs://a/x', 'hf://datasets/a/b@main/x']",
    "s3://bucket/{000..012}.tar; did you mean 'mine'?",
    "C:/Users/me@home/x",
    "abfss://images@account.dfs.core.windows.net/a/b is not there",
    "['abfs://c-1@account.dfs.core.windows.net', 'wasbs://c2c@account.blob.core.windows.net/x']",
]


def refused(capsys, *words):
    """What a command line prints on its way to exit code 2."""
    assert tiny.command(*words) == 2
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_repeated_without_its_secret_in_an_error(url):
    assert SECRET not in str(UserError(f"cannot read '{url}'; try another"))
    assert SECRET not in str(UserError(f'["https://example.org/a","{url}"]'))
    assert redacted(url) != url


@pytest.mark.parametrize("text", PLAIN)
def test_a_url_without_a_secret_is_repeated_as_it_is(text):
    assert str(UserError(text)) == text


@pytest.mark.parametrize(
    "words",
    [
        ["data", "inspect", "URL"],
        ["data", "verify", "URL"],
        ["index", "URL"],
        ["pack", "URL", "out"],
        ["pack", "images", "URL"],
        ["import", "URL", "out"],
        ["evaluate", "URL"],
        ["evaluate", "fashion-32", "--data", "URL"],
        ["sample", "--network", "URL", "--seeds", "0"],
        ["export", "URL", "out"],
        ["train", "hyper-mod-b", "--data", "URL"],
        ["train", "hyper-mod-b", "--data", "ants", "--data", "URL"],
        ["train", "hyper-mod-b", "--set", 'data.sources=["ants", "URL"]'],
        ["train", "hyper-mod-b", "--set", "evaluation.data=URL"],
        ["train", "hyper-mod-b", "--source", "URL"],
        ["train", "hyper-mod-b", "--outdir", "URL"],
        ["launch", "--dry-run", "hyper-mod-b", "--source", "URL"],
        ["launch", "--target", "k8s", "--dry-run", "hyper-mod-b", "--data", "URL"],
        ["doctor", "--data", "URL"],
        ["compare", "URL"],
        ["--registry", "URL", "list"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("url", URLS[:2])
def test_every_verb_refuses_a_url_with_a_secret_in_one_line_without_it(words, url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "no user, password or query" in refused(capsys, *[word.replace("URL", url) for word in words])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "entry", ["[mix]\nsources = ['ants', 'URL']", "embedded = 'x'\nheldout = 'URL'", "path = 'URL'"]
)
def test_a_registry_entry_with_a_secret_is_told_without_it(entry, tmp_path, capsys):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.toml").write_text(entry.replace("URL", URLS[0]))
    refused(capsys, "--registry", tmp_path, "data", "inspect", "mine")


@pytest.mark.parametrize("url", URLS)
def test_python_is_told_without_the_secret_either(url):
    for opened in (open_data, data_of):
        with pytest.raises(UserError, match="no user, password or query") as told:
            opened(url)
        assert SECRET not in str(told.value)
    with pytest.raises(ValidationError) as raw:
        Data(sources=["ants", url])
    assert SECRET not in str(raw.value)


def test_a_traceback_of_a_fault_holds_no_secret():
    code = (
        "import sys, hmgan.cli.app as app\n"
        'def fault(*a, **k): raise RuntimeError(f\'no route to https://me:{"s3" + "cr3t"}@example.org/x\')\n'
        "app.app, sys.argv = fault, ['hmgan', 'list']\n"
        "app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: no route to https://example.org/x" in done.stderr
    assert SECRET not in done.stderr


def test_a_threads_traceback_and_a_librarys_log_hold_none_either():
    code = (
        "import logging, sys, threading, hmgan.cli.app as app\n"
        "def fault():\n"
        '    raise RuntimeError(f\'no route to https://me:{"s3" + "cr3t"}@example.org/x\')\n'
        "def told(*a, **k):\n"
        "    logging.getLogger('hub').warning('HEAD %s', f'https://me:{\"s3\" + \"cr3t\"}@example.org/y')\n"
        "    thread = threading.Thread(target=fault)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "app.app, sys.argv = told, ['hmgan', 'list']\n"
        "app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "HEAD https://example.org/y" in done.stderr
    assert "RuntimeError: no route to https://example.org/x" in done.stderr
    assert SECRET not in done.stderr


def test_the_hubs_address_and_variables_are_shown_without_their_secrets(shards, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:{SECRET}@127.0.0.1:9/hub")
    train = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 4)
    assert tiny.command(*train, "--kimg", 0.004, *tiny.options(train__trackers="[]")) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert tiny.command("export", run, tmp_path / "out") == 0
    capsys.readouterr()
    assert tiny.command("push", tmp_path / "out", "anna/insects", "--dry-run") == 0
    assert capsys.readouterr().out.startswith("anna/insects at http://127.0.0.1:9/hub: ")
    shown = environment({"NCCL_NET_PLUGIN": f"https://me:{SECRET}@example.org/x"}, tmp_path)
    assert SECRET not in str(shown.rows)
    assert "https://example.org/x" in str(shown.rows)


def test_nothing_that_a_run_under_secrets_writes_holds_one_and_what_leaves_it_holds_no_path(
    shards, source, tmp_path, monkeypatch, capsys
):
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET}@127.0.0.1:9")
    train = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 4)
    assert tiny.command(*train, "--kimg", 0.004, "--metrics", 2, *tiny.options()) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert tiny.command("export", run, tmp_path / "left" / "export") == 0
    assert tiny.command("export", run, tmp_path / "left" / "bee", "--class", "bee") == 0
    assert tiny.command("classes", run, "rename", "bee", "wasp", "--out", tmp_path / "left" / "renamed") == 0
    assert tiny.command("classes", run, "drop", "bee", "--out", tmp_path / "left" / "dropped") == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    left = [path for path in files if tmp_path / "left" in path.parents]
    assert len(left) > 8
    assert [
        path for path in left if any(str(place).encode() in path.read_bytes() for place in (tmp_path, shards))
    ] == []
    sources = {path.parent.name for path in left if str(source).encode() in path.read_bytes()}
    assert sources == {"renamed", "dropped"}  # which start another class on it, and have no card to be pushed with
    out, err = capsys.readouterr()
    assert SECRET not in out + err
