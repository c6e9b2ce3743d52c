from __future__ import annotations

import io
import json
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from hmgan.data.decode import decode, decode_into
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.streamed import Streamed
from hmgan.data.tarstream import samples
from hmgan.data.tools import make_index, verify
from hmgan.errors import UserError

SIDE = 16
GREY = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
RGB = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def filled(jpeg):
    """With bytes before its first marker that a JPEG may have and few do."""
    return jpeg[:2] + b"\xff" * 3 + jpeg[2:]


def see_through():
    pixels = np.dstack([RGB, np.full((SIDE, SIDE), 255, np.uint8)])
    pixels[:4, :, 3] = 0
    return Image.fromarray(pixels)


def palette():
    image = Image.fromarray(GREY, "L").convert("P")
    image.info["transparency"] = 3
    return image


def with_clear(png, *levels):
    """A PNG of 16 bits in which one colour is transparent: Pillow does not write such a chunk."""
    body = b"tRNS" + b"".join(level.to_bytes(2, "big") for level in levels)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    at = png.index(b"IDAT") - 4
    return png[:at] + chunk + png[at:]


def colours_of_16_bits():
    """A PNG of RGB with 16 bits a channel, whose colour (1, 1, 1) * 257 is transparent."""
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2") * 257, 3).tobytes() for row in GREY)
    head = b"IHDR" + SIDE.to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    parts = (head, b"IDAT" + zlib.compress(rows), b"IEND")
    chunks = [(len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts]
    return with_clear(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), 257, 257, 257)


PICTURES = {
    "16 bit grey with a transparent level": with_clear(
        saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), 257
    ),
    "16 bit colours with a transparent one": colours_of_16_bits(),
    "16 bit PNG": saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    "16 bit TIFF": saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
    "16 bit PGM": b"P5 16 16 65535\n" + (GREY.astype(">u2") * 257).tobytes(),
    "turned JPEG": saved(Image.fromarray(RGB), "JPEG", exif=turned()),
    "turned PNG": saved(Image.fromarray(RGB), "PNG", exif=turned()),
    "turned JPEG after fill bytes": filled(saved(Image.fromarray(RGB), "JPEG", exif=turned())),
    "JPEG turned by XMP": saved(Image.fromarray(RGB), "JPEG", xmp=b'<x tiff:Orientation="6"/>'),
    "CMYK JPEG": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "progressive CMYK JPEG": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", progressive=True),
    "transparent PNG": saved(see_through(), "PNG"),
    "transparent WebP": saved(see_through(), "WEBP", lossless=True),
    "grey with alpha": saved(see_through().convert("LA"), "PNG"),
    "transparent palette": saved(palette(), "PNG"),
    "one bit": saved(Image.fromarray(GREY > 99), "PNG"),
}


def bare_shard(folder, content, ending="png"):
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in ((f"0.{ending}", content), ("0.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_pack_index_and_stream_show_the_same_pixels(name, tmp_path):
    content = PICTURES[name]
    place = bare_shard(tmp_path / "wds", content)
    pack(place, tmp_path / "out", background="#ff0000", report=lambda _: None)
    packed = ShardSet(tmp_path / "out")[0][0]
    make_index(str(place), report=lambda _: None, background="#ff0000")
    assert verify(str(place), lambda _: None) == []
    indexed = ShardSet(place)[0][0]
    stream = Streamed([str(place)], classes=["a"], buffer=1, background="#ff0000", report=lambda _: None)
    streamed_HW3 = np.empty((SIDE, SIDE, 3), np.uint8)
    stream.read_into(next(samples(stream.shards, True, stream.cache)), streamed_HW3)
    assert indexed.equal(packed)
    assert np.array_equal(streamed_HW3.transpose(2, 0, 1), packed.numpy())


def test_16_bits_keep_their_brightness_and_rotations_are_followed():
    assert np.array_equal(np.asarray(decode(PICTURES["16 bit PNG"]))[..., 0], GREY)
    assert np.array_equal(np.asarray(decode(PICTURES["16 bit PGM"]))[..., 0], GREY)
    assert np.array_equal(np.asarray(decode(PICTURES["turned PNG"])), np.rot90(RGB, -1))


@pytest.mark.parametrize("name", [name for name in PICTURES if "JPEG" in name])
def test_a_jpeg_is_decoded_as_pillow_does_up_to_rounding(name):
    content, seen_HW3 = PICTURES[name], np.empty((SIDE, SIDE, 3), np.uint8)
    decode_into(content, seen_HW3)
    with Image.open(io.BytesIO(content)) as image:
        wanted_HW3 = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.abs(seen_HW3.astype(int) - wanted_HW3).max() <= 4


@pytest.mark.parametrize("name", [name for name in PICTURES if "JPEG" in name])
def test_a_jpeg_is_not_taken_for_the_plain_one_before_it(name):
    seen_HW3 = np.empty((SIDE, SIDE, 3), np.uint8)
    for content in (saved(Image.fromarray(RGB), "JPEG"), PICTURES[name], saved(Image.fromarray(RGB[::-1]), "JPEG")):
        decode_into(content, seen_HW3)
        with Image.open(io.BytesIO(content)) as image:
            wanted_HW3 = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert np.abs(seen_HW3.astype(int) - wanted_HW3).max() <= 4


@pytest.mark.parametrize("length", [2, 3, 40, 300])
def test_a_jpeg_that_ends_in_its_head_is_refused(length):
    with pytest.raises((OSError, ValueError), match=r"image|Truncated"):
        decode_into(PICTURES["turned JPEG"][:length], np.empty((SIDE, SIDE, 3), np.uint8))


@pytest.mark.parametrize(("background", "pixel"), [("white", 255), ("black", 0)])
def test_what_hides_under_transparent_pixels_is_not_seen(background, pixel):
    out_HW3 = np.empty((SIDE, SIDE, 3), np.uint8)
    decode_into(PICTURES["transparent PNG"], out_HW3, background)
    assert (out_HW3[:4] == pixel).all()
    assert np.array_equal(out_HW3[4:], RGB[4:])


@pytest.mark.parametrize("name", ["16 bit grey with a transparent level", "16 bit colours with a transparent one"])
def test_the_transparent_level_of_16_bits_is_put_on_the_background(name):
    seen = np.asarray(decode(PICTURES[name], "#ff0000"))
    assert seen[0, 1].tolist() == [255, 0, 0]
    assert np.array_equal(np.delete(seen.reshape(-1, 3), 1, 0), np.delete(np.stack([GREY] * 3, 2).reshape(-1, 3), 1, 0))


@pytest.mark.parametrize("pixels", [GREY.astype(np.int32), GREY.astype(np.float32)])
def test_32_bits_of_unknown_range_are_refused_by_all(pixels, tmp_path):
    place = bare_shard(tmp_path / "wds", saved(Image.fromarray(pixels), "TIFF"), "tif")
    with pytest.raises(UserError, match="32-bit pixels, whose brightest value is not known"):
        make_index(str(place))
    lines = []
    with pytest.raises(UserError, match="no readable image"):
        pack(place, tmp_path / "out", report=lines.append)
    assert "32-bit pixels" in lines[0]


def test_the_colour_behind_transparent_pixels_is_told_and_must_be_one(tmp_path):
    place = bare_shard(tmp_path / "wds", PICTURES["transparent PNG"])
    lines = []
    pack(place, tmp_path / "out", background="grey", report=lines.append)
    make_index(str(place), report=lines.append)
    Streamed([str(place)], classes=["a"], buffer=1, report=lines.append)
    assert any("1 images have transparency and were put on grey (--background)" in line for line in lines)
    assert any("put on white (--background)" in line for line in lines)
    assert any("put on white (data.background)" in line for line in lines)
    with pytest.raises(UserError, match="background must be a colour such as white"):
        pack(place, tmp_path / "other", background="no colour")


def test_the_streaming_reader_tells_of_each_kind_of_transparent_image_once(tmp_path):
    place = bare_shard(tmp_path / "wds", PICTURES["one bit"])
    names = ("transparent PNG", "transparent WebP", "transparent PNG", "transparent palette")
    for number, name in enumerate(names, 1):
        bare_shard(tmp_path / f"{number}", PICTURES[name], "webp" if "WebP" in name else "png")
        (tmp_path / f"{number}" / "a.tar").rename(place / f"{number}.tar")
    lines = []
    stream = Streamed([str(place)], classes=["a"], buffer=1, report=lines.append)
    stream.examples(5)
    assert [line.partition(", such")[0] for line in lines] == [
        "transparent pixels are put on white (data.background)"
    ] * 3
    assert [line.rpartition(", ")[2] for line in lines] == ["PNG in RGBA", "WEBP in RGBA", "PNG in P"]


def test_an_earlier_index_of_transparent_images_is_refused_until_it_is_made_anew(tmp_path):
    place = bare_shard(tmp_path / "wds", PICTURES["transparent PNG"])
    digest = make_index(str(place), report=lambda _: None).digest
    head = json.loads((place / "index.json").read_text())
    assert head.pop("background") == "white"
    (place / "index.json").write_text(json.dumps(head))
    assert ShardSet(place).digest == digest
    with pytest.raises(UserError, match="has transparency, and the index is of an earlier hmgan"):
        ShardSet(place)[0]
    make_index(str(place), report=lambda _: None)
    assert (ShardSet(place)[0][0].numpy()[:, :4] == 255).all()


def test_an_earlier_index_of_opaque_images_is_read_as_before(tmp_path):
    place = bare_shard(tmp_path / "wds", PICTURES["16 bit PNG"])
    make_index(str(place), report=lambda _: None)
    head = json.loads((place / "index.json").read_text())
    del head["background"]
    (place / "index.json").write_text(json.dumps(head))
    assert np.array_equal(ShardSet(place)[0][0].numpy()[0], GREY)


def test_enlarging_is_told(tmp_path):
    lines = []
    pack(bare_shard(tmp_path / "wds", PICTURES["one bit"]), tmp_path / "out", resolution=32, report=lines.append)
    assert any("1 images are smaller than 32 px and were enlarged" in line for line in lines)
