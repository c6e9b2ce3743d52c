"""Data as people have it: labels that are missing, names that come twice, litter, tables of other programs."""

from __future__ import annotations

import errno
import io
import json
import math
import tarfile
import zipfile

import pytest
from PIL import Image
from tiny_pictures import pixels, png

from hmgan.data.filenames import LITTER_REASON, is_litter
from hmgan.data.left_out import FILE
from hmgan.data.pack import pack as packing
from hmgan.data.pack.labels import label_text, labels_of
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.streamed import Streamed
from hmgan.data.tools import make_index
from hmgan.errors import UserError


def silent(_: str) -> None: ...


def shard(folder, *members, name="a.tar"):
    """A shard of members, given as a name and their content; a number is the picture of that number."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / name, "w") as tar:
        for member, content in members:
            data = png(pixels(content)) if isinstance(content, int) else content
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def refused_by(call, *args, **kwargs):
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def both_refuse(place, out, text):
    assert text in refused_by(make_index, str(place), None, silent)
    assert text in refused_by(pack, place, out, report=silent)
    assert not out.exists()


@pytest.mark.parametrize("value", [None, "", "  ", -1, "-1", "-1.0", math.nan, "nan", 1.5, [1], {"a": 1}, b"1"])
def test_missing_and_odd_labels_are_none(value):
    assert label_text(value) is None


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (3.0, "3"), (" cat ", "cat"), ("0", "0"), ("not-5", "not-5")])
def test_other_labels_are_their_text(value, text):
    assert label_text(value) == text


@pytest.mark.parametrize("third", [[], [("2.cls", b"")], [("2.cls", b"-1")]])
def test_a_sample_without_a_label_is_named_and_refused(third, tmp_path):
    place = shard(tmp_path / "wds", ("0.png", 0), ("0.cls", b"0"), ("1.png", 1), ("1.cls", b"1"), ("2.png", 2), *third)
    both_refuse(place, tmp_path / "out", "1 of 3 images in")


def test_shards_of_which_no_sample_has_a_label_are_one_class(tmp_path):
    place = shard(tmp_path / "wds", ("0.png", 0), ("1.png", 1))
    assert make_index(str(place), None, silent).classes == ("all",)


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, None], [0, 1, 2]])
def test_a_parquet_label_that_names_no_class_is_refused(labels, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"image": [png(pixels(i)) for i in range(3)], "label": labels})
    head = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"]}}}}).encode()
    parquet.write_table(table.replace_schema_metadata({b"huggingface": head}), tmp_path / "a.parquet")
    assert "1 of 3 images in" in refused_by(pack, tmp_path / "a.parquet", tmp_path / "out", report=silent)


@pytest.mark.parametrize("cls", ["null", '""', "-1", "NaN", "[0]"])
def test_a_jsonl_label_that_is_none_is_refused(cls, tmp_path):
    (tmp_path / "0.png").write_bytes(png(pixels(0)))
    (tmp_path / "a.jsonl").write_text(f'{{"path": "0.png", "label": {cls}}}\n')
    text = refused_by(pack, tmp_path / "a.jsonl", tmp_path / "out", report=silent)
    assert "1 of 1 images" in text
    assert "have no label, such as 0.png" in text


def test_two_samples_of_one_key_are_refused(tmp_path):
    members = [("0.png", 0), ("0.cls", b"0")]
    place = shard(tmp_path / "wds", *members, ("1.png", 1), ("1.cls", b"1"), *members)
    both_refuse(place, tmp_path / "out", "sample 0 is there twice, with two .png")


def test_two_labels_of_one_image_are_refused(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(png(pixels(i)))
    (tmp_path / "a.csv").write_text("path,label\n0.png,cat\n1.png,dog\n0.png,dog\n")
    assert "two entries for '0.png'" in refused_by(pack, tmp_path / "a.csv", tmp_path / "out", report=silent)
    (tmp_path / "b.csv").write_text("path,label,label\n0.png,cat,dog\n")
    assert "two entries for 'label'" in refused_by(pack, tmp_path / "b.csv", tmp_path / "out", report=silent)
    (tmp_path / "dataset.json").write_text('{"labels": [["0.png", 0], ["1.png", 1], ["0.png", 1]]}')
    assert "two entries for '0.png'" in refused_by(pack, tmp_path, tmp_path / "out", report=silent)


def test_two_classes_of_one_name_are_refused(tmp_path):
    place = shard(tmp_path / "wds", ("0.png", 0), ("0.cls", b"0"), ("1.png", 1), ("1.cls", b"1"))
    assert "two entries for 'cat'" in refused_by(make_index, str(place), ["cat", "cat"], silent)


@pytest.mark.parametrize(
    ("name", "litter"),
    [
        ("./._0.png", True),
        ("__MACOSX/0.png", True),
        ("cat/Thumbs.db", True),
        ("cat/.ipynb_checkpoints/0.png", True),
        ("./0.png", False),
        ("../0.png", False),
        ("cat/0.png", False),
    ],
)
def test_litter_is_known_by_its_name(name, litter):
    assert is_litter(name) is litter


@pytest.mark.parametrize("litter", ["./._0.png", "__MACOSX/._0.png", "./Thumbs.db", "./.ipynb_checkpoints/0.png"])
def test_shards_with_litter_are_those_without_it(litter, tmp_path):
    good = [("./0.png", 0), ("./0.cls", b"0"), ("./1.png", 1), ("./1.cls", b"1")]
    place = shard(tmp_path / "wds", (litter, b"xx"), *good)
    (place / "._a.tar").write_bytes(b"litter too")
    assert len(make_index(str(place), None, silent)) == 2
    assert Streamed([str(place)], classes=["a", "b"], buffer=1).resolution == 8
    assert len(pack(place, tmp_path / "out", report=silent)) == 2


def test_what_is_passed_over_is_counted_by_its_reason(folder, tmp_path):
    src = folder(cat=2, dog=2)
    for name in ("notes.txt", "Thumbs.db", "._000.png"):
        (src / "cat" / name).write_bytes(b"0")
    (src / "cat" / "IMG_1.HEIC").write_bytes(b"0")
    (src / "cat" / "000.png").rename(src / "cat" / "000.jfif")
    lines: list[str] = []
    index = pack(src, tmp_path / "out", report=lines.append)
    assert index.counts == (2, 2)
    assert index.skipped == 1
    assert any("passed over, not named like an image: 1 (cat/notes.txt)" in line for line in lines)
    assert any("litter of a file manager or notebook: 2 (cat/._000.png, cat/Thumbs.db)" in line for line in lines)
    assert any("cannot be read: cat/IMG_1.HEIC" in line for line in lines)


def test_a_zip_tells_what_it_passes_over(tmp_path):
    members = [("0.png", png(pixels(0))), ("a.txt", "x"), ("dataset.json", '{"labels": null}')]
    lines: list[str] = []
    pack(zipped(tmp_path / "a.zip", members), tmp_path / "out", report=lines.append)
    assert [line for line in lines if "passed over" in line] == [
        f"passed over, not named like an image: 1 (a.txt) in {tmp_path / 'a.zip'}"
    ]


def test_shards_without_samples_are_told(tmp_path):
    place = shard(tmp_path / "wds")
    assert "hold" in refused_by(make_index, str(place), None, silent)
    assert "holds no images" in refused_by(pack, place, tmp_path / "out", report=silent)
    assert "hold no samples" in refused_by(Streamed, [str(place)], classes=["a"], buffer=1)


def test_a_parquet_without_rows_is_told(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"image": [b""][:0], "label": [0][:0]}), tmp_path / "a.parquet")
    assert "holds no images" in refused_by(pack, tmp_path / "a.parquet", tmp_path / "out", report=silent)


def test_an_empty_shard_beside_a_full_one_does_no_harm(tmp_path):
    place = shard(tmp_path / "wds", name="0.tar")
    shard(place, ("0.png", 0), ("0.cls", b"0"), name="1.tar")
    assert len(make_index(str(place), None, silent)) == 1
    assert Streamed([str(place)], classes=["a"], buffer=1).resolution == 8


TABLE = "path,label\n0.png,thé\n1.png,café\n"


@pytest.mark.parametrize("content", [TABLE.encode("utf-8-sig"), TABLE.replace(",", ";").encode(), TABLE.encode()])
def test_tables_of_excel_are_read(content, tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(png(pixels(i)))
    (tmp_path / "A.CSV").write_bytes(content)
    assert pack(tmp_path / "A.CSV", tmp_path / "out", report=silent).classes == ("café", "thé")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_tables_in_other_encodings_are_one_line(encoding, name, tmp_path):
    text = TABLE if name == "a.csv" else '{"path": "0.png", "label": "thé"}\n'
    (tmp_path / name).write_bytes(text.encode(encoding))
    text = refused_by(pack, tmp_path / name, tmp_path / "out", report=silent)
    assert "UTF-8" in text or "is not JSON" in text


def test_a_quotation_mark_that_is_never_closed_takes_no_rows(folder, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text('path,label\n0.png,"cat\n1.png,dog\n', encoding="utf-8")
    assert refused_by(pack, table, tmp_path / "out", report=silent).endswith("unexpected end of data; mend it")


@pytest.mark.parametrize("labels", ["12", "21", ["cat", "dog"], ["0", "cat"]])
def test_shards_are_packed_with_the_same_classes_whether_they_are_indexed_before_or_not(labels, tmp_path):
    members = [(f"{i}.png", i) for i in range(4)] + [(f"{i}.cls", labels[i % 2].encode()) for i in range(4)]
    place = shard(tmp_path / "wds", *members)
    pack(place, tmp_path / "before", report=silent)
    make_index(str(place), None, silent)
    pack(place, tmp_path / "after", report=silent)
    before, after, indexed = (ShardSet(str(tmp_path / name)) for name in ("before", "after", "wds"))
    assert before.classes == after.classes == indexed.classes == tuple(sorted(labels))
    assert before.digest == after.digest


def test_a_zip_with_a_password_is_told(tmp_path):
    path = zipped(tmp_path / "a.zip", [("0.png", png(pixels(0))), ("dataset.json", '{"labels": null}')])
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + at] |= 1
    path.write_bytes(content)
    assert "has a password" in refused_by(pack, path, tmp_path / "out", report=silent)


def test_a_compression_that_zipfile_does_not_know_is_one_line(tmp_path):
    path = zipped(tmp_path / "a.zip", [("0.png", png(pixels(0))), ("dataset.json", '{"labels": null}')])
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + at] = 97
    path.write_bytes(content)
    assert "cannot be read" in refused_by(pack, path, tmp_path / "out", report=silent)


@pytest.mark.parametrize("inside", ["00000/{}.png", "00000\\{}.png"])
def test_backslashes_of_windows_are_slashes(inside, tmp_path):
    labels = {"labels": [[f"00000\\{i}.png", i] for i in range(2)]}
    members = [(inside.format(i), png(pixels(i))) for i in range(2)]
    path = zipped(tmp_path / "a.zip", [*members, ("dataset.json", json.dumps(labels))])
    assert pack(path, tmp_path / "out", report=silent).counts == (1, 1)


def test_backslashes_in_a_table_are_slashes(folder, tmp_path):
    folder("img", cat=1, dog=1)
    (tmp_path / "a.csv").write_text("path,label\nimg\\cat\\000.png,cat\nimg\\dog\\001.png,dog\n")
    assert pack(tmp_path / "a.csv", tmp_path / "out", report=silent).counts == (1, 1)


@pytest.mark.parametrize("resolution", [65536, 8192, 10**12, 0, -4, 48])
def test_a_resolution_beyond_memory_is_refused_before_anything_is_read(resolution, folder, tmp_path):
    assert "power of two and at least 4, at most 4096" in refused_by(
        pack, folder(), tmp_path / "out", resolution=resolution
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_out_of_range_are_refused(threads, folder, tmp_path):
    assert f"--threads must lie in 1..256, got {threads}" in refused_by(
        pack, folder(), tmp_path / "out", threads=threads
    )


def test_a_strip_that_would_become_a_huge_square_is_left_out(folder, tmp_path):
    src = folder(cat=2)
    Image.new("RGB", (20_000, 1)).save(src / "cat" / "strip.png")
    lines: list[str] = []
    index = pack(src, tmp_path / "out", resolution=8, fit="pad", report=lines.append)
    assert (len(index), index.skipped) == (2, 1)
    assert any("cat/strip.png (20000 x 1 becomes a square of 20000 px" in line for line in lines)


@pytest.mark.parametrize("picture", ["a path", {"path": "a path"}, None])
def test_parquet_pictures_without_bytes_are_left_out(picture, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"image": [picture], "label": [0]}), tmp_path / "a.parquet")
    assert "none of the 1 images" in refused_by(pack, tmp_path / "a.parquet", tmp_path / "out", report=silent)


def named_in(folder):
    """(name, reason) of each line of the file beside a set."""
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return [(line["name"], line["reason"]) for line in lines]


def labelled_table(tmp_path, labels):
    for i in range(len(labels)):
        (tmp_path / f"{i}.png").write_bytes(png(pixels(i)))
    rows = [json.dumps({"path": f"{i}.png", "label": label}) for i, label in enumerate(labels)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    return tmp_path / "a.jsonl"


def unlabelled_in_a_table(tmp_path):
    return labelled_table(tmp_path, ["cat", -1, "dog", None])


def unlabelled_in_a_stylegan_zip(tmp_path):
    pairs = [["0.png", 0], ["1.png", -1], ["2.png", 1]]  # and none for 3.png
    members = [(f"{i}.png", png(pixels(i))) for i in range(4)]
    return zipped(tmp_path / "a.zip", [*members, ("dataset.json", json.dumps({"labels": pairs}))])


def unlabelled_beside_class_folders(tmp_path):
    for i, name in enumerate(("cat/0.png", "1.png", "dog/2.png", "3.png")):
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_bytes(png(pixels(i)))
    return tmp_path / "src"


def unlabelled_in_shards(tmp_path):
    labels = ((0, b"0"), (1, b""), (2, b"1"))
    return shard(tmp_path / "wds", *[(f"{i}.png", i) for i in range(4)], *[(f"{i}.cls", text) for i, text in labels])


UNLABELLED_IN = (
    unlabelled_in_a_table,
    unlabelled_in_a_stylegan_zip,
    unlabelled_beside_class_folders,
    unlabelled_in_shards,
)


@pytest.mark.parametrize("make", UNLABELLED_IN)
def test_unlabelled_images_are_left_out_where_that_is_asked_for(make, tmp_path):
    src, out, lines = make(tmp_path), tmp_path / "out", []
    assert "2 of 4 images in" in refused_by(pack, src, out, report=silent)
    index = pack(src, out, report=lines.append, leave_out_unlabelled=True)
    assert index.counts == (1, 1)
    (told,) = [line for line in lines if "passed over, no label" in line]
    assert ": 2 (" in told
    assert [name[0] for name, _ in named_in(out)] == ["1", "3"]
    assert {reason[:8] for _, reason in named_in(out)} == {"no label"}


def test_an_index_leaves_unlabelled_samples_out_where_that_is_asked_for(tmp_path):
    place, lines = unlabelled_in_shards(tmp_path), []
    tarfile.open(place / "b.TAR", "w").close()  # a shard without samples
    index = make_index(str(place), ["cat", "dog"], lines.append, leave_out_unlabelled=True)
    assert index.counts == (1, 1)
    assert [shard.samples for shard in index.shards] == [2, 0]
    assert "passed over, no label: 2 (1 (''), 3 (None))" in " ".join(lines)
    data = ShardSet(str(place))
    assert [data[i][1] for i in range(2)] == [0, 1]
    assert [name for name, _ in named_in(place)] == ["1 ('')", "3 (None)"]


def test_a_label_beyond_the_names_is_left_out_with_its_own_reason(tmp_path):
    assert labels_of([("a", 0), ("b", 7), ("c", "")], ["cat", "dog"]) == (
        ["cat", None, None],
        {"a label that is none of 0..1": ["b (7)"], "no label": ["c ('')"]},
    )


def test_nothing_is_packed_where_no_image_has_a_label(tmp_path):
    table = labelled_table(tmp_path, [-1, None])
    text = refused_by(pack, table, tmp_path / "out", report=silent, leave_out_unlabelled=True)
    assert "all 2 images in" in text
    assert not (tmp_path / "out").exists()


def test_all_names_of_what_is_passed_over_are_kept_beside_the_set(folder, tmp_path):
    src = folder(cat=2, dog=2)
    for i in range(9):
        (src / "cat" / f"note{i}.txt").write_bytes(b"0")
    (src / "dog" / "9.png").write_bytes(b"no picture")
    lines: list[str] = []
    pack(src, tmp_path / "out", report=lines.append)
    assert any("9 (cat/note0.txt, " in line and "note5" not in line for line in lines)
    names = named_in(tmp_path / "out")
    assert [name for name, _ in names] == [*(f"cat/note{i}.txt" for i in range(9)), "dog/9.png"]
    assert names[-1][1].startswith("cannot be read: ")
    pack(folder("tidy"), tmp_path / "none", report=silent)
    assert not (tmp_path / "none" / FILE).exists()


def test_litter_in_a_shard_is_counted_and_named(tmp_path):
    members = [("0.png", 0), ("0.cls", b"0"), ("._0.png", b"x"), ("__MACOSX/._1.png", b"x")]
    place, lines = shard(tmp_path / "wds", *members), []
    make_index(str(place), None, lines.append)
    assert f"passed over, {LITTER_REASON}: 2 (a.tar/._0.png, a.tar/__MACOSX/._1.png)" in " ".join(lines)
    assert len(named_in(place)) == 2
    lines.clear()
    pack(place, tmp_path / "out", report=lines.append)
    assert f"passed over, {LITTER_REASON}: 2 (" in " ".join(lines)


def test_a_new_index_keeps_what_was_left_out_before(folder, tmp_path):
    src = folder(cat=1, dog=1)
    (src / "cat" / "a.txt").write_bytes(b"0")
    pack(src, tmp_path / "out", report=silent)
    make_index(str(tmp_path / "out"), None, silent)
    assert [name for name, _ in named_in(tmp_path / "out")] == ["cat/a.txt"]


def test_capitals_in_the_endings_of_files_are_the_same_as_small_letters(tmp_path):
    place = shard(tmp_path / "wds", ("0.PNG", 0), ("0.CLS", b"0"), ("1.Jpg", 1), ("1.cls", b"1"), name="A.TAR")
    assert make_index(str(place), None, silent).classes == ("0", "1")
    assert len(pack(place, tmp_path / "out", report=silent)) == 2
    assert Streamed([str(place)], classes=["0", "1"], buffer=1).resolution == 8
    members = [("0.PNG", png(pixels(0))), ("dataset.json", '{"labels": null}')]
    assert len(pack(zipped(tmp_path / "a.ZIP", members), tmp_path / "zip", report=silent)) == 1
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"image": [png(pixels(0))], "label": ["cat"]}), tmp_path / "a.PARQUET")
    assert pack(tmp_path / "a.PARQUET", tmp_path / "table", report=silent).classes == ("cat",)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "x"), OSError(errno.ENFILE, "x"), MemoryError()])
def test_a_limit_of_the_machine_is_no_damage_of_an_image(error, folder, tmp_path, monkeypatch):
    src = folder(cat=2, dog=2)

    def fail(*_):
        raise error

    monkeypatch.setattr(packing, "decode", fail)
    with pytest.raises((UserError, MemoryError)) as told:
        pack(src, tmp_path / "out", report=silent)
    if isinstance(error, OSError):
        assert "ulimit -n" in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_an_archive_beyond_the_limit_of_open_files_is_not_called_damaged(code, tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", [("0.png", png(pixels(0))), ("dataset.json", '{"labels": null}')])

    def fail(*_):
        raise OSError(code, "too many", str(path))

    monkeypatch.setattr(zipfile, "ZipFile", fail)
    text = refused_by(pack, path, tmp_path / "out", report=silent)
    assert f"{path} cannot be opened" in text
    assert "ulimit -n" in text
