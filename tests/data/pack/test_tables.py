"""Tables and archives: what is packed from them is what is packed from a folder per class."""

from __future__ import annotations

import gzip
import json
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pictures import pixels, png

from hmgan.data.pack.kinds import open_source
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError

LABELS = ["dog", "cat", "dog", "ant", "cat"]


def contents(out: Path) -> dict[bytes, str]:
    data = ShardSet(out)
    return {data[i][0].permute(1, 2, 0).numpy().tobytes(): data.classes[data[i][1]] for i in range(len(data))}


WANTED = {pixels(i).tobytes(): label for i, label in enumerate(LABELS)}


def refused(*args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        pack(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(len(LABELS)):
        (tmp_path / f"img/{i}.png").write_bytes(png(pixels(i)))
    return tmp_path


@pytest.mark.parametrize("columns", [None, ("file name", "kind")])
def test_a_csv(pictures, columns):
    image, label = columns or ("path", "label")
    rows = [f"{image},{label}", *(f"img/{i}.png,{name}" for i, name in enumerate(LABELS))]
    (pictures / "list.csv").write_text("\n".join(rows) + "\n")
    assert pack(pictures / "list.csv", pictures / "out", opens=partial(open_source, columns=columns)).classes == (
        "ant",
        "cat",
        "dog",
    )
    assert contents(pictures / "out") == WANTED


def test_a_jsonl(pictures):
    lines = [json.dumps({"path": f"img/{i}.png", "label": name}) for i, name in enumerate(LABELS)]
    (pictures / "list.jsonl").write_text("\n".join(lines))
    pack(pictures / "list.jsonl", pictures / "out")
    assert contents(pictures / "out") == WANTED


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, zipped):
    gray = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 8, 8) + gray.tobytes()
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes([7, 1, 7, 3, 1])
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        path = tmp_path / f"train-{name}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    src = next(tmp_path.glob("*images*"))
    assert pack(src, tmp_path / "out").classes == ("1", "3", "7")
    got = contents(tmp_path / "out")
    assert got == {np.stack([g] * 3, -1).tobytes(): str(label) for g, label in zip(gray, [7, 1, 7, 3, 1], strict=True)}


@pytest.mark.parametrize("named", [False, True])
def test_parquet_as_hugging_face_writes_it(tmp_path, named):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = ["dog", "cat", "ant"]  # numbers 0, 1, 2
    table = arrow.table(
        {
            "picture": [{"bytes": png(pixels(i)), "path": f"{i}.png"} for i in range(5)],
            "kind": [names.index(label) for label in LABELS],
        }
    )
    if named:
        features = {"kind": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "src/data").mkdir(parents=True)
    for part in range(2):
        parquet.write_table(table.slice(3 * part, 3), tmp_path / f"src/data/train-{part}.parquet", row_group_size=2)
    index = pack(tmp_path / "src", tmp_path / "out", opens=partial(open_source, columns=("picture", "kind")))
    assert index.classes == (("dog", "cat", "ant") if named else ("0", "1", "2"))
    shown = {"dog": "0", "cat": "1", "ant": "2"}
    assert contents(tmp_path / "out") == {k: v if named else shown[v] for k, v in WANTED.items()}
    text = refused(tmp_path / "src", tmp_path / "other")
    assert "has no column 'image', but picture, kind; name the right ones with --image-column" in text


def test_shards_are_packed_anew(pictures):
    rows = ["path,label", *(f"img/{i}.png,{name}" for i, name in enumerate(LABELS))]
    (pictures / "list.csv").write_text("\n".join(rows))
    pack(pictures / "list.csv", pictures / "once", shard_samples=2)
    index = pack(pictures / "once", pictures / "twice", shard_samples=4)
    assert [shard.samples for shard in index.shards] == [4, 1]
    assert contents(pictures / "twice") == WANTED
    (pictures / "once/index.json").unlink()  # shards that others made have numbers only
    assert pack(pictures / "once", pictures / "numbers").classes == ("0", "1", "2")


ZIPPED = gzip.compress(bytes(range(256)) * 8, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", b"file,label\nx.png,cat\n", "row 1 of"),
        ("a.csv", b"path,label\n", "lists no images"),
        ("a.jsonl", b"{", "line 1 of"),
        ("a.jsonl", b"[1]", "must be an object {...}, got list"),
        ("images-idx3-ubyte", b"no idx", "is not a readable IDX file"),
        ("images-idx3-ubyte.gz", b"no gzip", "is not a readable IDX file"),
        ("images-idx3-ubyte.gz", ZIPPED[:20], "is not a readable IDX file"),
        ("images-idx3-ubyte.gz", ZIPPED[:10] + b"\xff" * 9 + ZIPPED[19:], "is not a readable IDX file"),
        ("a.tar", b"no tar", "cannot be packed anew"),
        ("a.parquet", b"no parquet", "is not readable parquet"),
    ],
)
def test_tables_that_cannot_be_read_are_told(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    assert text in refused(tmp_path / name, tmp_path / "out")


def test_columns_are_for_tables(pictures):
    assert "has no columns" in refused(
        pictures / "img", pictures / "out", opens=partial(open_source, columns=("a", "b"))
    )


def test_images_of_all_formats_and_fits(tmp_path):
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, :, 0] = np.arange(32) * 8
    (tmp_path / "src").mkdir()
    Image.fromarray(wide).save(tmp_path / "src/wide.png")
    for extension in ("png", "jpg", "webp"):
        pack(tmp_path / "src", tmp_path / extension, resolution=16, extension=extension, quality=90)
        image = ShardSet(tmp_path / extension)[0][0].numpy().astype(float)
        assert abs(image[0, 8] - np.arange(8, 24) * 8).max() < 12
    pack(tmp_path / "src", tmp_path / "padded", resolution=16, fit="pad")
    image = ShardSet(tmp_path / "padded")[0][0].numpy().astype(float)
    assert abs(image[0, 8] - (np.arange(16) * 16 + 4)).max() < 8
    assert len(np.unique(image[0, :2])) <= 2  # the border
    assert "--fit must be one of crop, pad, got 'x'" in refused(tmp_path / "src", tmp_path / "o", fit="x")
    assert "--format must be one of png, jpg, webp, got 'x'" in refused(tmp_path / "src", tmp_path / "o", extension="x")
    assert "--quality must lie in 1..100, got 0" in refused(tmp_path / "src", tmp_path / "o", quality=0)
