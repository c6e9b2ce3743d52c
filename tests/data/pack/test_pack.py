from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_pictures import pixels, png
from webdataset.tariterators import group_by_keys, tar_file_iterator

from hmgan.data.index_files import read_index
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError


def contents(out: Path) -> dict[bytes, str]:
    """Pixels -> class name of all that was packed."""
    data = ShardSet(out)
    return {data[i][0].permute(1, 2, 0).numpy().tobytes(): data.classes[data[i][1]] for i in range(len(data))}


def refused(*args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        pack(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def stylegan_zip(path: Path, labels: str | None, images: int = 4) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for i in range(images):
            file.writestr(f"00000/img{i:08d}.png", png(pixels(i)))
        if labels is not None:
            file.writestr("dataset.json", labels)
    return path


def test_a_folder_per_class_comes_back_pixel_for_pixel(folder, tmp_path):
    pack(folder(cat=5, dog=4), tmp_path / "out")
    assert contents(tmp_path / "out") == {pixels(i).tobytes(): "cat" if i < 5 else "dog" for i in range(9)}


def test_the_index_counts_what_was_packed(folder, tmp_path):
    index = pack(folder(cat=5, dog=4), tmp_path / "out", shard_samples=4, name="pets")
    assert (index.resolution, index.classes, index.counts, index.skipped) == (8, ("cat", "dog"), (5, 4), 0)
    assert [(s.name, s.samples) for s in index.shards] == [
        ("pets-000000.tar", 4),
        ("pets-000001.tar", 4),
        ("pets-000002.tar", 1),
    ]
    assert read_index(tmp_path / "out").digest == index.digest


def test_webdataset_reads_the_shards(folder, tmp_path):
    pack(folder(cat=5, dog=4), tmp_path / "out", name="pets")
    with open(tmp_path / "out/pets-000000.tar", "rb") as file:
        samples = list(group_by_keys({**s, "__url__": "-"} for s in tar_file_iterator(file)))
    got = {np.asarray(Image.open(io.BytesIO(s["png"]))).tobytes(): int(s["cls"]) for s in samples}
    assert got == {pixels(i).tobytes(): int(i >= 5) for i in range(9)}


def test_every_shard_mixes_the_classes(folder, tmp_path):
    index = pack(folder(cat=30, dog=30), tmp_path / "out", shard_samples=20)
    for shard in range(3):
        assert set(index.label[index.shard == shard]) == {0, 1}


def test_packing_twice_gives_the_same_bytes(folder, tmp_path):
    src = folder()
    first, second = (pack(src, tmp_path / out, shard_samples=4, name="pets") for out in ("a", "b"))
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert first.digest == second.digest


def test_the_digest_tells_a_changed_label_and_ignores_names(folder, tmp_path):
    src = folder()
    first, renamed = (pack(src, tmp_path / out) for out in ("a", "b"))
    assert first.digest == renamed.digest
    (src / "cat/000.png").rename(src / "dog/000.png")
    assert pack(src, tmp_path / "c").digest != first.digest


def test_keys_are_unique_and_hold_no_dots(tmp_path):
    (tmp_path / "src/a.b").mkdir(parents=True)
    for i, name in enumerate(("x.1.png", "x_1.png", "x.1.jpg.png", "é.png", "ü.png", f"{'long' * 50}.png")):
        (tmp_path / "src/a.b" / name).write_bytes(png(pixels(i)))
    pack(tmp_path / "src", tmp_path / "out", name="n")
    with tarfile.open(tmp_path / "out/n-000000.tar") as tar:
        names = tar.getnames()
    assert len({name for name in names if name.endswith(".png")}) == 6
    assert all(name.count(".") == 1 for name in names)
    assert len(contents(tmp_path / "out")) == 6


def test_a_stylegan_zip_brings_its_labels(tmp_path):
    labels = '{"labels": [["00000/img00000000.png", 10], ["00000/img00000001.png", 2],'
    labels += '["00000/img00000002.png", 2], ["00000/img00000003.png", 10]]}'
    index = pack(stylegan_zip(tmp_path / "a.zip", labels), tmp_path / "out")
    assert index.classes == ("2", "10")
    assert contents(tmp_path / "out") == {pixels(i).tobytes(): ("10", "2", "2", "10")[i] for i in range(4)}


@pytest.mark.parametrize("unzip", [False, True])
def test_stylegan_data_without_labels_is_one_class(tmp_path, unzip):
    src = stylegan_zip(tmp_path / "a.zip", '{"labels": null}')
    if unzip:
        zipfile.ZipFile(src).extractall(tmp_path / "a")
        src = tmp_path / "a"
    assert pack(src, tmp_path / "out").classes == ("all",)
    assert len(contents(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (None, "has no dataset.json; unzip it"),
        ("{", "is not readable JSON"),
        ("[]", "must hold an object"),
        ('{"labels": [["00000/img00000000.png", [0, 1]]]}', "pairs [file name, whole number]"),
        ('{"labels": [["00000/img00000000.png", 1]]}', "3 of 4 images in"),
        ('{"labels": [' + ",".join(f'["00000/img{i:08d}.png", 0]' for i in range(5)) + "]}", "img00000004.png, which"),
    ],
)
def test_a_zip_with_wrong_labels_is_refused(tmp_path, labels, text):
    assert text in refused(stylegan_zip(tmp_path / "a.zip", labels), tmp_path / "out")


def test_a_folder_of_loose_images_is_one_class(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/0.png").write_bytes(png(pixels(0)))
    assert pack(tmp_path / "src", tmp_path / "out").classes == ("all",)


def test_a_corrupt_image_is_named_counted_and_left_out(folder, tmp_path):
    src = folder()
    whole = (src / "cat/001.png").read_bytes()
    (src / "cat/001.png").write_bytes(whole[: len(whole) // 2])
    (src / "dog/006.png").write_bytes(b"not an image")
    lines: list[str] = []
    index = pack(src, tmp_path / "out", report=lines.append)
    assert (index.skipped, index.counts) == (2, (4, 3))
    assert read_index(tmp_path / "out").skipped == 2
    assert len(lines) == 2
    assert any("cat/001.png" in line for line in lines)
    assert any("dog/006.png" in line for line in lines)


def test_only_corrupt_images_are_an_error_and_leave_nothing(folder, tmp_path):
    src = folder(cat=2)
    for file in (src / "cat").iterdir():
        file.write_bytes(b"")
    assert "none of the 2 images" in refused(src, tmp_path / "out")
    assert "no readable image: 2 of 2" in refused(src, tmp_path / "out", resolution=8, report=lambda _: None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src"]


def test_an_error_half_way_leaves_nothing(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("hmgan.data.pack.destinations.write_index", full)
    with pytest.raises(OSError, match="no space"):
        pack(folder(), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src"]


def test_an_existing_folder_is_not_overwritten(folder, tmp_path):
    (tmp_path / "out").mkdir()
    pack(folder(), tmp_path / "out")
    assert "exists already" in refused(folder("other"), tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 9


def test_images_are_cropped_to_the_middle_and_resized(tmp_path):
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = 200
    (tmp_path / "src").mkdir()
    (tmp_path / "src/wide.png").write_bytes(png(wide))
    pack(tmp_path / "src", tmp_path / "out", resolution=8)
    image = ShardSet(tmp_path / "out")[0][0]
    assert tuple(image.shape) == (3, 8, 8)
    assert (image == 200).all()


def test_padding_has_the_colour_of_the_border(tmp_path):
    picture = np.full((6, 6, 3), (10, 20, 30), np.uint8)
    picture[2:4] = pixels(0, 6)[2:4]  # touches the left and the right edge
    (tmp_path / "src").mkdir()
    (tmp_path / "src/0.png").write_bytes(png(picture))
    pack(tmp_path / "src", tmp_path / "out", pad=1)
    image = ShardSet(tmp_path / "out")[0][0].permute(1, 2, 0).numpy()
    assert (image[1:-1, 1:-1] == picture).all()
    for side in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert (side == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path, mode):
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    image = Image.fromarray(gray)
    image = Image.fromarray(gray.astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    (tmp_path / "src").mkdir()
    image.save(tmp_path / f"src/0.{'tif' if mode == 'CMYK' else 'png'}")
    pack(tmp_path / "src", tmp_path / "out")
    assert (ShardSet(tmp_path / "out")[0][0].numpy() == gray).all()


def test_a_photograph_on_its_side_is_turned_upright(tmp_path):
    (tmp_path / "src").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, "PNG", exif=exif)
    (tmp_path / "src/0.png").write_bytes(file.getvalue())
    pack(tmp_path / "src", tmp_path / "out")
    assert (ShardSet(tmp_path / "out")[0][0].permute(1, 2, 0).numpy() == pixels(0)[::-1, ::-1]).all()


def test_sources_that_cannot_be_packed_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow/cat").mkdir(parents=True)
    (tmp_path / "text.zip").write_text("no zip")
    assert "does not exist" in refused(tmp_path / "nothing", tmp_path / "out")
    assert "holds no images" in refused(tmp_path / "empty", tmp_path / "out")
    assert "hollow/cat holds no images" in refused(tmp_path / "hollow", tmp_path / "out")
    assert "not a readable ZIP" in refused(tmp_path / "text.zip", tmp_path / "out")
    mixed = folder("mixed")
    (mixed / "stray.png").write_bytes(png(pixels(0)))
    assert "have no label (no class folder), such as stray.png" in refused(mixed, tmp_path / "out")


def test_sizes_that_do_not_fit_are_refused(folder, tmp_path):
    out = tmp_path / "out"
    assert "got 28; pass --resolution 16 or 32" in refused(folder("a", 28), out)
    assert "got 0; pass --resolution 4" in refused(folder("b"), out, resolution=0)
    assert "got 10 px with --pad 2 for --resolution 32" in refused(folder("c", 10), out, resolution=32, pad=2)
    (folder("d") / "cat/000.png").write_bytes(png(pixels(0, 16)))
    text = refused(tmp_path / "d", out)
    assert "8 px (cat/001.png), 16 px (cat/000.png)" in text
    assert "pass --resolution" in text


def test_options_out_of_range_are_refused(folder, tmp_path):
    src = folder()
    assert "got 0" in refused(src, tmp_path / "out", shard_samples=0)
    assert "got -1" in refused(src, tmp_path / "out", pad=-1)
    assert "got 'a.b'" in refused(src, tmp_path / "out", name="a.b")
