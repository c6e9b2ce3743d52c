"""Thirty things that people met who used tools of this field, each in short and by the real command line.

Their kinds have files of their own, with more cases: docs/reliability.md, "What people run into".
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import launched
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_cli import hmgan, refused, train
from test_ended import signalled

from hmgan.data.shards import ShardSet
from hmgan.train import claims, rundir


def picture(seed=0, mode="RGB", side=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def shard(folder, *members):
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder


def labelled(count, *, prefix=""):
    return [
        (f"{prefix}{i:03d}.{end}", content)
        for i in range(count)
        for end, content in (("png", png(picture(i))), ("cls", b"%d" % (i % 2)))
    ]


def last_line(capsys, *words):
    """What a command says last that is refused after it has begun to look."""
    capsys.readouterr()
    assert tiny.command(*words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def said(capsys, *words):
    """What a command that succeeds prints."""
    capsys.readouterr()
    assert tiny.command(*words) == 0
    out, err = capsys.readouterr()
    return out + err


@pytest.fixture
def images(tmp_path):
    return tiny.write_images(tmp_path / "images", 4)


# Lost, silently wrong, or leaking.


@pytest.mark.parametrize("words", [["sample", "--network", "fashion-32", "--seeds", "0-9999", "--outdir", "out"]])
def test_ctrl_c_is_130(words, tmp_path):
    code, text = signalled(signal.SIGINT, "libtorch_cpu", *words, cwd=tmp_path)
    assert (code, text.splitlines()[-1]) == (130, "stopped by SIGINT")


def test_names_of_classes_stay_inside_the_outdir(images, source, tmp_path, capsys):
    names = ["T-shirt/top", "../../escaped", "/abs"]
    with (tmp_path / "l.csv").open("w", newline="") as file:
        rows = [[path, names[i % 3]] for i, path in enumerate(sorted(images.rglob("*.png")))]
        csv.writer(file).writerows([["path", "label"], *rows])
    assert tiny.command("pack", tmp_path / "l.csv", tmp_path / "set") == 0
    assert tiny.command(*train(tmp_path / "runs", tmp_path / "set", source, "--kimg", 0.004)) == 0
    (run,) = (tmp_path / "runs").iterdir()
    before = set(tmp_path.rglob("*"))
    assert tiny.command("sample", "--network", run, "--outdir", tmp_path / "a" / "b" / "out", "--seeds", "0") == 0
    made = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    assert [path.parent for path in made] == [tmp_path / "a" / "b" / "out"] * 3


def test_an_index_over_a_packed_set_keeps_the_names(run, tmp_path, capsys):
    assert "cat" in said(capsys, "index", tmp_path / "set")
    assert ShardSet(str(tmp_path / "set")).classes == tiny.CLASSES


def test_a_packing_that_goes_on_takes_an_image_that_was_replaced(tmp_path, monkeypatch, capsys):
    images = tiny.write_images(tmp_path / "images", 20)
    broken = images / "ant" / "000.png"
    good = broken.read_bytes()
    broken.write_bytes(b"broken")
    from hmgan.data.pack.destinations import Journal

    add, shards = Journal.add, iter(range(3))

    def some(self, *args, **kwargs):
        if next(shards, None) is None:
            raise KeyboardInterrupt
        add(self, *args, **kwargs)

    words = ["pack", images, tmp_path / "out", "--shard-samples", 4, "--threads", 1]
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", some)
        assert tiny.command(*words) == 130
    broken.write_bytes(good)
    assert "(ant 20, bee 20, cat 20)" in said(capsys, *words)


def test_a_run_is_resumed_by_one_process(run, tmp_path):
    with claims.alone(run / rundir.CLAIMS, str(run)):
        other = launched.start(["train", "--resume", run, "--kimg", 0.012], 1, tmp_path / "said")
        assert other.codes() == [2]
    (said,) = other.said()
    assert f"is being trained by another process ({os.uname().nodename}, pid {os.getpid()})" in " ".join(said.split())


def test_samples_without_a_label_are_no_class(tmp_path, capsys):
    place = shard(tmp_path / "wds", *[member for member in labelled(6) if member[0] != "003.cls"])
    assert "1 of 6 images" in last_line(capsys, "index", place)
    cells = [{"bytes": png(picture(i)), "path": ""} for i in range(4)]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1, -1, -1]}), tmp_path / "hf.parquet")
    assert "2 of 4 images" in last_line(capsys, "pack", tmp_path / "hf.parquet", tmp_path / "out")


def test_two_samples_of_one_key_are_refused_with_shard_and_key(tmp_path, capsys):
    got = refused(capsys, "index", shard(tmp_path / "wds", *labelled(2), *labelled(2)))
    assert "a.tar" in got
    assert "sample 000 is there twice" in got


def test_shards_with_16_bits_and_rotations_are_read_as_pack_reads_them(tmp_path):
    wide = Image.fromarray(np.asarray(picture(1, "L")).astype(np.uint16) * 257)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    picture(2).save(turned, "JPEG", quality=100, exif=exif)
    members = [("0.png", png(wide)), ("0.cls", b"0"), ("1.jpg", turned.getvalue()), ("1.cls", b"1")]
    place = shard(tmp_path / "wds", *members)
    assert tiny.command("pack", place, tmp_path / "out") == 0
    assert tiny.command("index", place) == 0
    indexed, packed = (ShardSet(str(path)) for path in (place, tmp_path / "out"))
    by_label = {int(packed[i][1]): packed[i][0] for i in range(2)}
    for i in range(2):
        image, label = indexed[i]
        assert torch.equal(image, by_label[int(label)])


def test_what_hides_under_transparent_pixels_is_not_packed(tmp_path, capsys):
    (tmp_path / "img").mkdir()
    for i in range(2):
        image = picture(i, "RGBA")
        image.putalpha(0)
        image.save(tmp_path / "img" / f"{i}.png")
    assert "2 images have transparency and were put on black" in said(
        capsys, "pack", tmp_path / "img", tmp_path / "out", "--background", "black"
    )
    assert int(ShardSet(str(tmp_path / "out"))[0][0].max()) == 0


def test_files_that_are_passed_over_are_counted_and_named(images, tmp_path, capsys):
    (images / "cat" / "IMG_1.HEIC").write_bytes(b"0" * 99)
    (images / "cat" / "000.png").rename(images / "cat" / "notes.doc")
    text = said(capsys, "pack", images, tmp_path / "out")
    assert "IMG_1.HEIC" in text
    assert "notes.doc" in text


def test_litter_of_a_mac_is_no_sample(tmp_path, capsys):
    members = [("./._000.png", b"xx"), *labelled(4, prefix="./")]
    place = shard(tmp_path / "wds", *members)
    assert "4 images" in said(capsys, "pack", place, tmp_path / "out")
    assert "4 images" in said(capsys, "index", place)


def test_shards_without_samples_are_one_line(tmp_path, capsys):
    place = shard(tmp_path / "wds")
    assert "holds no .tar shards with images" in last_line(capsys, "index", place)
    assert "holds no images" in last_line(capsys, "pack", place, tmp_path / "out")


def test_weights_that_are_nan_are_refused_by_name(run, tmp_path, capsys):
    assert tiny.command("export", run, tmp_path / "bad") == 0
    file = tmp_path / "bad" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.startswith("trained."))
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, file)
    for words in (
        ["sample", "--network", file.parent, "--outdir", tmp_path / "s"],
        ["export", file.parent, tmp_path / "o"],
    ):
        assert f"{name} holds numbers that are not finite" in refused(capsys, *words)


def test_a_truncation_that_is_no_number_is_refused(run, capsys):
    before = (run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b""
    for value in ("nan", "inf"):
        assert value in refused(capsys, "evaluate", run, "--per-class", 4, "--trunc", value)
        assert value in refused(capsys, "sample", "--network", run, "--trunc", value)
    assert ((run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b"") == before


def test_another_experiment_beside_resume_is_refused(run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "which is another" in refused(capsys, "train", "hyper-mod-c", "--resume", run)
    assert refused(capsys, "train", "no-such", "--resume", run).startswith("no experiment named 'no-such'")
    assert refused(capsys, "train", "hyper-mod-b", "--resume", "").startswith("--resume got ''")


def test_data_that_moved_is_given_beside_resume(run, tmp_path, capsys):
    (tmp_path / "set").rename(tmp_path / "moved")
    assert "--data" in refused(capsys, "train", "--resume", run, "--kimg", 0.012)
    assert tiny.command("train", "--resume", run, "--kimg", 0.012, "--data", tmp_path / "moved") == 0


@pytest.mark.parametrize(
    "url", ["https://me:s3cr3tpw@example.org/x", "https://b.example.org/x?X-Amz-Signature=s3cr3tpw"]
)
def test_a_secret_of_a_url_is_in_no_output(url, capsys):
    assert "s3cr3tpw" not in refused(capsys, "data", "inspect", url)
    assert "s3cr3tpw" not in refused(capsys, "evaluate", "fashion-32", "--data", url)


# Tracebacks and wrong blame.


@pytest.mark.slow  # a process of its own that trains and scores; tests/cli/test_locale.py has the kind
def test_a_locale_without_unicode_takes_nothing_away(shards, source, tmp_path):
    words = train(tmp_path / "runs", shards, source, "--kimg", 0.004, "--metrics", 2)
    done = hmgan(*words, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) > 2
    assert "\N{MULTIPLICATION SIGN}" not in done.stderr


@pytest.mark.parametrize("verb", ["pack", "train", "sample", "inspect", "doctor"])
def test_a_place_that_cannot_be_written_is_one_line(verb, images, shards, source, tmp_path, capsys):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "out"
    words = {
        "pack": ["pack", images, place],
        "train": train(place, shards, source, "--kimg", 0.004),
        "sample": ["sample", "--network", source, "--outdir", place, "--seeds", "0"],
        "inspect": ["data", "inspect", shards, "--grid", place.with_suffix(".png")],
        "doctor": ["doctor", "--outdir", place],
    }[verb]
    capsys.readouterr()
    assert tiny.command(*words) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err.splitlines()[-1]


def test_a_launchers_variable_left_over_is_named(shards, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in (train(tmp_path, shards, source, "--dry-run"), ["evaluate", "fashion-32"]):
        assert "WORLD_SIZE=2 of a launcher" in refused(capsys, *words)


def test_an_endpoint_without_a_scheme_is_named(monkeypatch, capsys):
    for name, value in {"AWS_ENDPOINT_URL": "127.0.0.1:9000", "AWS_REGION": "x"}.items():
        monkeypatch.setenv(name, value)
    assert refused(capsys, "data", "inspect", "s3://bucket/x").startswith("AWS_ENDPOINT_URL must be a whole URL")


def test_tables_of_excel_are_read_or_told(images, tmp_path, capsys):
    paths = sorted(images.rglob("*.png"))[:4]
    names = ("th\u00e9", "caf\u00e9")
    text = "path,label\n" + "".join(f"{path},{names[i % 2]}\n" for i, path in enumerate(paths))
    for name, encoding in (("bom", "utf-8-sig"), ("latin", "latin-1"), ("wide", "utf-16")):
        (tmp_path / f"{name}.csv").write_text(text, encoding=encoding)
    assert "4 images" in said(capsys, "pack", tmp_path / "bom.csv", tmp_path / "out")
    for name in ("latin", "wide"):
        assert "is not a table in UTF-8" in refused(capsys, "pack", tmp_path / f"{name}.csv", tmp_path / name)


def test_a_zip_with_a_password_is_one_line(tmp_path, capsys):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", png(picture()))
    content = bytearray(path.read_bytes())
    for mark, flag in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.find(mark) + flag] |= 1
    path.write_bytes(content)
    assert refused(capsys, "pack", path, tmp_path / "out") == f"{path} has a password; make it anew without one"


def test_a_walk_between_the_classes_of_one_is_refused(tmp_path, source, capsys):
    images = tiny.write_images(tmp_path / "images", 8)
    for name in ("bee", "cat"):
        shutil.rmtree(images / name)
    assert tiny.command("pack", images, tmp_path / "set") == 0
    assert tiny.command(*train(tmp_path / "runs", tmp_path / "set", source, "--kimg", 0.004)) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert "needs 2 classes" in refused(capsys, "interpolate", "--network", run, "--out", tmp_path / "i.png")


def test_backslashes_of_windows_are_slashes(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(4):
            archive.writestr(f"00000/{i}.png", png(picture(i)))
        archive.writestr("dataset.json", json.dumps({"labels": [[f"00000\\{i}.png", i % 2] for i in range(4)]}))
    assert "(0 2, 1 2)" in said(capsys, "pack", tmp_path / "a.zip", tmp_path / "out")


def test_a_store_that_does_not_answer_is_not_called_damage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hmgan.data.store.stores.GIVE_UP", 0.1, raising=True)
    capsys.readouterr()
    assert tiny.command("data", "inspect", "http://127.0.0.1:9/x") == 2
    err = capsys.readouterr().err
    assert "no connection" in err
    assert "damaged" not in err
    assert "pack" not in err


def test_no_hint_names_the_images_as_the_place_to_write(images, capsys):
    got = refused(capsys, "train", "hyper-mod-b", "--data", images, "--dry-run")
    assert f"hmgan pack {images} DST" in got
    assert f"pack SRC {images}" not in got


def test_too_few_for_a_metric_is_told_by_class_or_option(run, capsys):
    assert "--per-class must be 6 or more for prdc, got 2" in refused(
        capsys, "evaluate", run, "--per-class", 2, "--metrics", "prdc"
    )


def test_a_class_of_one_image_is_told_before_anything_is_drawn(run, images, tmp_path, capsys):
    for path in sorted((images / "bee").iterdir())[1:]:
        path.unlink()
    assert tiny.command("pack", images, tmp_path / "few") == 0
    assert "class 'bee' has 1 real image" in refused(capsys, "evaluate", run, "--data", tmp_path / "few")


# Scale.


def test_a_thousand_classes_are_trained_with_a_bounded_picture(source, tmp_path, capsys):
    for i in range(1000):
        (tmp_path / "img" / f"{i:04d}").mkdir(parents=True)
        (tmp_path / "img" / f"{i:04d}" / "0.png").write_bytes(png(picture(i)))
    assert tiny.command("pack", tmp_path / "img", tmp_path / "set") == 0
    began = time.monotonic()
    text = said(capsys, *train(tmp_path / "runs", tmp_path / "set", source, "--kimg", 0.004, "--metrics", 0))
    assert "pictures show the first 32 of 1,000 classes" in text
    assert time.monotonic() - began < 60


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    program = (
        "import resource, sys, tiny\n"
        "for seeds in ('0-15', '0-239'):\n"
        f"    tiny.command('sample', '--network', 'fashion-32', '--outdir', {str(tmp_path)!r}, '--seeds', seeds)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    few, many = (int(line) for line in done.stderr.split())
    assert many - few < 32 * 1024  # KiB; all at once they took 0.27 MiB each
