"""Recipes, each on a small archive of the layout that its owner distributes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import tiny
from test_pack import contents, refused
from tiny_pictures import pixels, png

from hmgan.config import entries
from hmgan.data.filenames import LITTER_REASON
from hmgan.data.left_out import FILE
from hmgan.data.pack.image_folders import ImageSource
from hmgan.data.pack.label_files import attribute_column, matlab_vector
from hmgan.data.pack.pack import pack
from hmgan.data.pack.recipes import Expected, Recipe, recipe_source
from hmgan.errors import UserError

PLACES = [
    "amphitheater",
    "aqueduct",
    "castle",
    "dam",
    "field_road",
    "fire_station",
    "pagoda",
    "underwater-ocean_deep",
    "volcano",
    "waterfall",
]
LETTERS = {name: f"{name[0]}/{name.replace('-', '/')}" for name in PLACES}
LITTER = {"__MACOSX/afhq/train/cat/._0.jpg": b"litter", "afhq/readme.txt": b"text"}
ATTRIBUTES = "3\nBald Male Young\n0.jpg  -1 -1 1\n1.jpg  -1 1 1\n2.jpg  1 1 -1\n"


def images(*paths: str) -> dict[str, bytes]:
    """Image i has the pixels `pixels(i)`."""
    return {path: png(pixels(i)) for i, path in enumerate(paths)}


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def opened(name: str, split: str | None = None, **expected: object) -> Callable[[Path], ImageSource]:
    """The registry's recipe, expecting the counts of a small archive."""
    table = entries.entry("recipe", name)
    table["splits"][split or table["split"]]["expected"] = expected
    return partial(recipe_source, name=name, recipe=Recipe.model_validate(table), split=split)


def matlab(path: Path, **vectors: list[int]) -> None:
    from scipy.io import savemat

    savemat(path, {name: [vector] for name, vector in vectors.items()})


def test_afhq_from_its_zip(tmp_path):
    paths = [
        f"afhq/{split}/{label}/{i}.jpg" for split in ("train", "val") for label in ("wild", "cat", "dog") for i in "01"
    ]
    src = zipped(tmp_path / "afhq.zip", images(*paths) | LITTER)
    index = pack(src, tmp_path / "train", opens=opened("afhq", counts={"cat": 2, "dog": 2, "wild": 2}))
    assert (index.classes, index.counts) == (("cat", "dog", "wild"), (2, 2, 2))
    assert contents(tmp_path / "train") == {pixels(i).tobytes(): paths[i].split("/")[2] for i in range(6)}
    pack(src, tmp_path / "val", opens=opened("afhq", "val", counts={"cat": 2, "dog": 2, "wild": 2}))
    assert contents(tmp_path / "val") == {pixels(i).tobytes(): paths[i].split("/")[2] for i in range(6, 12)}


def test_a_recipe_tells_what_it_passes_over(tmp_path):
    paths = [f"afhq/{split}/cat/{i}.jpg" for split in ("train", "val") for i in "01"]
    lines: list[str] = []
    src = zipped(tmp_path / "afhq.zip", images(*paths) | LITTER | {"afhq/train/cat/._0.jpg": b"litter"})
    pack(src, tmp_path / "out", opens=opened("afhq", counts={"cat": 2}), report=lines.append)
    assert [line.removesuffix(f" in {src}") for line in lines if "passed over" in line] == [
        f"passed over, {LITTER_REASON}: 2 (__MACOSX/afhq/train/cat/._0.jpg, afhq/train/cat/._0.jpg)",
        "passed over, not named like an image: 1 (afhq/readme.txt)",
        "passed over, not of the split train: 2 (afhq/val/cat/0.jpg, afhq/val/cat/1.jpg)",
    ]
    assert len((tmp_path / "out" / FILE).read_text().splitlines()) == 5


def test_an_archive_gives_the_shards_of_the_folder_that_it_unpacks_to(tmp_path):
    files = images(*(f"afhq/train/{label}/{i}.jpg" for label in ("cat", "dog", "wild") for i in range(3)))
    expected = {"counts": {"cat": 3, "dog": 3, "wild": 3}}
    zipfile.ZipFile(zipped(tmp_path / "afhq.zip", files)).extractall(tmp_path)
    digests = {
        pack(tmp_path / "afhq.zip", tmp_path / "a", opens=opened("afhq", **expected)).digest,
        pack(tmp_path / "afhq", tmp_path / "b", opens=opened("afhq", **expected)).digest,
        pack(tarred(tmp_path / "a.tar", files), tmp_path / "c", opens=opened("afhq", **expected)).digest,
        pack(tarred(tmp_path / "a.tar.xz", files, "w:xz"), tmp_path / "d", opens=opened("afhq", **expected)).digest,
        pack(tmp_path / "afhq/train", tmp_path / "e").digest,
    }
    assert len(digests) == 1


@pytest.mark.parametrize("root", ["", "images1024x1024/", "thumbnails128x128/"])
def test_ffhq_with_its_splits(tmp_path, root):
    numbers = ["00000", "00001", "59999", "60000", "69999"]
    src = zipped(tmp_path / "a.zip", images(*(f"{root}{n[:2]}000/{n}.png" for n in numbers), f"{root}LICENSE.png"))
    for split, first, last in (("all", 0, 5), ("training", 0, 3), ("validation", 3, 5)):
        pack(src, tmp_path / split, opens=opened("ffhq", split, counts={"face": last - first}))
        assert contents(tmp_path / split) == {pixels(i).tobytes(): "face" for i in range(first, last)}


def test_celeba_hq_by_gender(tmp_path):
    paths = ["celeba_hq/train/male/1.jpg", "celeba_hq/train/female/2.jpg", "celeba_hq/val/male/3.jpg"]
    src = zipped(tmp_path / "celeba_hq.zip", images(*paths))
    index = pack(src, tmp_path / "out", opens=opened("celeba-hq", counts={"female": 1, "male": 1}))
    assert index.classes == ("female", "male")
    assert contents(tmp_path / "out") == {pixels(0).tobytes(): "male", pixels(1).tobytes(): "female"}


@pytest.mark.parametrize("inside", [True, False])
def test_celebamask_hq_by_its_attribute_list(tmp_path, inside):
    files = images(*(f"CelebAMask-HQ/CelebA-HQ-img/{i}.jpg" for i in range(3)), "CelebAMask-HQ/mask/0/0_hair.png")
    name = "CelebAMask-HQ-attribute-anno.txt"
    if inside:
        files[f"CelebAMask-HQ/{name}"] = ATTRIBUTES.encode()
    else:
        (tmp_path / name).write_text(ATTRIBUTES)
    opens = opened("celebamask-hq", counts={"female": 1, "male": 2})
    pack(zipped(tmp_path / "a.zip", files), tmp_path / "out", opens=opens)
    assert contents(tmp_path / "out") == {pixels(i).tobytes(): ("female", "male", "male")[i] for i in range(3)}


def test_flowers_as_one_class(tmp_path):
    src = tarred(tmp_path / "102flowers.tgz", images(*(f"jpg/image_{i:05d}.jpg" for i in range(1, 5))), "w:gz")
    pack(src, tmp_path / "out", opens=opened("flowers102", counts={"flower": 4}))
    assert contents(tmp_path / "out") == {pixels(i).tobytes(): "flower" for i in range(4)}


def test_flowers_by_species_and_split(tmp_path):
    src = tarred(tmp_path / "102flowers.tgz", images(*(f"jpg/image_{i:05d}.jpg" for i in range(1, 7))), "w:gz")
    matlab(tmp_path / "imagelabels.mat", labels=[77, 77, 1, 102, 1, 2])
    matlab(tmp_path / "setid.mat", trnid=[4, 1], valid=[2, 3], tstid=[6, 5])
    index = pack(src, tmp_path / "all", opens=opened("flowers102-species", total=6, classes=4, each=[1, 2]))
    assert index.classes == ("1", "2", "77", "102")
    for split, wanted in (("train", {3: "102", 0: "77"}), ("val", {1: "77", 2: "1"}), ("test", {5: "2", 4: "1"})):
        pack(src, tmp_path / split, opens=opened("flowers102-species", split, total=2))
        assert contents(tmp_path / split) == {pixels(i).tobytes(): label for i, label in wanted.items()}


@pytest.mark.parametrize("letters", [True, False])
def test_the_ten_classes_of_places365_from_either_tar(tmp_path, letters):
    paths = [f"data_256/{LETTERS[c]}/1.jpg" if letters else f"places365_standard/train/{c}/1.jpg" for c in PLACES]
    others = ("data_256/c/canyon/1.jpg", "places365_standard/train/canyon/1.jpg", "places365_standard/val/dam/1.jpg")
    src = tarred(tmp_path / "places.tar", images(*paths, *others))
    index = pack(src, tmp_path / "out", opens=opened("places365", classes=10, each=[1, 1]))
    assert index.classes == tuple(PLACES)
    assert contents(tmp_path / "out") == {pixels(i).tobytes(): name for i, name in enumerate(PLACES)}


def test_the_command_checks_counts_and_packs_on_request(tmp_path, capsys):
    files = images(*(f"afhq/train/{label}/{i}.jpg" for label in ("cat", "dog", "wild") for i in range(2)))
    src = zipped(tmp_path / "afhq.zip", files)
    assert tiny.command("pack", src, tmp_path / "out", "--recipe", "afhq") == 2
    assert capsys.readouterr().err == (
        f"error: {src} by the recipe afhq, split train: cat: expected 5153, got 2; dog: expected 4739, got 2; "
        "wild: expected 4738, got 2; get the archive anew, or pass --accept-counts to pack what is there\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["afhq.zip"]
    assert tiny.command("pack", src, tmp_path / "out", "--recipe", "afhq", "--accept-counts", "--format", "jpg") == 0
    said = capsys.readouterr()
    assert "wild: expected 4738, got 2" in said.err
    assert "6 images of 256 px in 1 shards (cat 2, dog 2, wild 2)" in said.out


def test_a_recipe_or_split_that_is_not_there_shows_the_nearest(tmp_path, capsys):
    src = zipped(tmp_path / "afhq.zip", {})
    assert tiny.command("pack", src, tmp_path / "out", "--recipe", "afqh") == 2
    assert "no recipe named 'afqh'; did you mean 'afhq'?" in capsys.readouterr().err
    assert tiny.command("pack", src, tmp_path / "out", "--recipe", "afhq", "--split", "test") == 2
    assert "afhq has no split 'test'" in capsys.readouterr().err
    assert tiny.command("pack", src, tmp_path / "out", "--split", "val") == 2
    assert "--split and --accept-counts are of a recipe" in capsys.readouterr().err


def test_expected_counts_name_what_differs():
    found = {"a": 3, "b": 1}
    assert Expected(total=4, classes=2, each=[1, 3], counts=found).differences(found) == []
    assert Expected(total=5, classes=3).differences(found) == [
        "images: expected 5, got 4",
        "classes: expected 3, got 2",
    ]
    assert Expected(each=[2, 3]).differences(found) == ["b: expected 2 to 3, got 1"]
    assert Expected(counts={"a": 3, "c": 2}).differences(found) == ["b: expected 0, got 1", "c: expected 2, got 0"]


def test_links_and_ways_out_of_an_archive_are_refused(tmp_path):
    opens = opened("afhq", counts={"cat": 1})
    link = tarfile.TarInfo("afhq/train/cat/0.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        tar.addfile(link)
    assert "is not a regular file" in refused(tmp_path / "link.tar", tmp_path / "out", opens=opens)
    info = zipfile.ZipInfo("afhq/train/cat/0.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "is not a regular file" in refused(tmp_path / "link.zip", tmp_path / "out", opens=opens)
    for name in ("../train/cat/0.jpg", "/train/cat/0.jpg"):
        for src in (zipped(tmp_path / "a.zip", images(name)), tarred(tmp_path / "a.tar", images(name))):
            assert "leads out of the archive" in refused(src, tmp_path / "out", opens=opens)


def test_archives_that_cannot_be_read_are_told(tmp_path):
    opens = opened("afhq", counts={"cat": 1})
    (tmp_path / "text.zip").write_text("no archive")
    assert "must be a ZIP, a tar or a compressed tar" in refused(tmp_path / "text.zip", tmp_path / "out", opens=opens)
    assert "does not exist" in refused(tmp_path / "nothing.zip", tmp_path / "out", opens=opens)
    tgz = tarred(tmp_path / "a.tgz", images(*(f"train/cat/{i}.jpg" for i in range(9))), "w:gz")
    tgz.write_bytes(tgz.read_bytes()[:1500])
    assert "cannot be read" in refused(tgz, tmp_path / "out", opens=opens)
    other = zipped(tmp_path / "other.zip", images("flowers/1.jpg"))
    assert "holds no images of afhq, split train, which are called train/cat/*.jpg" in refused(
        other, tmp_path / "out", opens=opens
    )


def test_label_files_that_are_missing_or_wrong_are_told(tmp_path):
    src = tarred(tmp_path / "a.tgz", images("jpg/image_00001.jpg"), "w:gz")
    text = refused(src, tmp_path / "out", opens=opened("flowers102-species", total=1))
    assert f"imagelabels.mat is neither in {src} nor beside it" in text
    with pytest.raises(UserError, match="holds no whole numbers called 'labels'"):
        matlab_vector(b"no matlab", "imagelabels.mat", "labels")
    with pytest.raises(UserError, match="has no column 'Tall'"):
        attribute_column(ATTRIBUTES.encode(), "list.txt", "Tall")
    with pytest.raises(UserError, match="must have 3 values a line, got 2 in line 6"):
        attribute_column((ATTRIBUTES + "3.jpg 1 1\n").encode(), "list.txt", "Male")
