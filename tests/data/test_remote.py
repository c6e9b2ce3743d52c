"""Packed sets in object stores: the same as local ones, whatever the store does in between."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import faulty_s3
import pytest
import torch

from hmgan.data import loader
from hmgan.data.images import Reading
from hmgan.data.index_files import read_index, upload_index
from hmgan.data.loader import batches
from hmgan.data.mixture import Mixture
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.store import cache, folders, stores
from hmgan.data.store.stores import open_store
from hmgan.errors import DamageError, UserError
from hmgan.files import sha256_of_open

IMAGES = 24


@pytest.fixture
def local(folder, tmp_path, monkeypatch):
    """24 images in 5 shards; blocks and windows small enough that there are several."""
    monkeypatch.setattr(stores, "BLOCK", 1500)
    pack(folder(cat=12, dog=12), tmp_path / "out", shard_samples=5, name="pets")
    return tmp_path / "out"


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache that nothing is in."""
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/shards"


def upload(local: Path, url: str) -> str:
    store = open_store(url)
    for path in sorted(local.iterdir()):
        store.put(path.name, path.read_bytes())
    return url


@pytest.fixture
def url(local, s3, fresh, tmp_path):
    return upload(local, f"s3://{faulty_s3.BUCKET}/{tmp_path.name}")


@pytest.fixture
def older(local, url):
    """The same set, with an index from before there were crc32s."""
    index = read_index(local)
    upload_index(replace(index, crc32=index.crc32[:0]), open_store(url))
    return url


def tars_asked(proxied) -> Counter:
    """How often each shard was downloaded from its beginning."""
    asked = [(path.rpartition("/")[2], start) for method, path, start in proxied.asked if method == "GET"]
    return Counter(name for name, start in asked if name.endswith(".tar") and start == 0)


def shown(data: ShardSet, images: int, *, workers: int = 0, batch: int = 2, start: int = 0, **options) -> list:
    reading = Reading(batch_per_rank=batch, seed=1, start_step=start, workers=workers, **options)
    steps = islice(batches(data, reading), images // batch)
    return [(image.numpy().tobytes(), int(label)) for step in steps for image, label in zip(*step, strict=True)]


def names(data: ShardSet, whole: Path, images: int, **options) -> list[int]:
    """Which images of the set were shown."""
    known = ShardSet(whole)
    number = {known[i][0].numpy().tobytes(): i for i in range(len(known))}
    return [number[content] for content, _ in shown(data, images, **options)]


def told(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    text = str(error.value)
    assert "\n" not in text
    assert faulty_s3.SECRET not in text
    assert faulty_s3.KEY not in text
    return text


def only_tars(fault: str | None):
    return lambda method, path, start: fault if path.endswith(".tar") else None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_set_in_s3_is_shown_like_the_local_one(local, url, workers, monkeypatch):
    monkeypatch.setattr(loader, "WINDOW", 8)
    here, there = ShardSet(local), ShardSet(url)
    assert (there.digest, there.counts, there.classes) == (here.digest, here.counts, here.classes)
    assert torch.equal(there.labels, here.labels)
    assert shown(there, 3 * IMAGES, workers=workers) == shown(here, 3 * IMAGES)
    assert shown(there, IMAGES, workers=workers, start=7) == shown(here, IMAGES, start=7)


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_other_urls_are_read_too(local, fresh, scheme, tmp_path):
    url = f"memory://{tmp_path.name}" if scheme == "memory" else f"file://{local}"
    if scheme == "memory":
        upload(local, url)
    for workers in (0, 1):
        assert shown(ShardSet(url), IMAGES, workers=workers) == shown(ShardSet(local), IMAGES)


def test_a_second_reader_asks_only_for_the_index(url, proxied):
    list(shown(ShardSet(url), IMAGES))
    first = [path for _, path, _ in proxied.asked if path.endswith(".tar")]
    assert len(first) > 5
    proxied.asked.clear()
    list(shown(ShardSet(url), IMAGES))
    assert {Path(urlsplit(path).path).suffix for _, path, _ in proxied.asked} <= {".json", ".safetensors"}


def test_what_is_mixed_with_each_other_must_fit_into_the_cache(url, monkeypatch):
    monkeypatch.setenv("HMGAN_CACHE_GIB", "0.00001")
    assert "set HMGAN_CACHE_GIB to twice that" in told(lambda: shown(ShardSet(url), 2))
    monkeypatch.setenv("HMGAN_CACHE_GIB", "much")
    assert "HMGAN_CACHE_GIB must be a number of GiB more than 0, got 'much'" in told(lambda: ShardSet(url))


def test_an_epoch_goes_through_a_cache_that_holds_one_window_at_a_time(local, url, monkeypatch):
    monkeypatch.setattr(loader, "WINDOW", 8)
    data = ShardSet(url)
    data.index.folder._cache.limit = 3 * max(shard.bytes for shard in data.index.shards)
    for workers in (0, 2):
        assert sorted(names(data, local, IMAGES, workers=workers)) == list(range(IMAGES))


def by_weight(url: str) -> Mixture:
    """The set's two classes as two sources."""
    parts = [ShardSet(url, classes=[name]) for name in ("cat", "dog")]
    return Mixture(parts, classes=("cat", "dog"), weights=[2, 1])


@pytest.mark.parametrize("opened", [ShardSet, by_weight])
@pytest.mark.parametrize("ahead", [False, True])
def test_a_resumed_run_asks_for_no_shard_that_it_does_not_need(url, proxied, monkeypatch, opened, ahead):
    monkeypatch.setattr(loader, "WINDOW", 5)
    data = opened(url)
    order, shards = data.order(seed=1, window=5), [shard for index in data.indexes for shard in index.shards]
    end, wanted = order.window(21)
    if ahead:  # of the window that it is in, and of the next
        wanted = [*wanted, *order.window(end)[1]]
    else:
        monkeypatch.setattr(ShardSet, "prefetch", lambda *_, **__: None)
    list(shown(data, 2, start=10))
    asked = {path.rpartition("/")[2] for _, path, _ in proxied.asked if path.endswith(".tar")}
    assert asked <= {shards[shard].name for shard in wanted}
    assert asked


@pytest.mark.parametrize("index", ["url", "older"])
def test_workers_do_not_hash_again_what_their_owner_has_and_crc32s_spare_the_owner(
    index, request, tmp_path, monkeypatch
):
    url, hashed = request.getfixturevalue(index), tmp_path / "hashed"

    def counted(descriptor: int) -> str:
        with hashed.open("a") as file:
            file.write(f"{descriptor}\n")
        return sha256_of_open(descriptor)

    shown(ShardSet(url), IMAGES)
    monkeypatch.setattr(cache, "sha256_of_open", counted)
    data = ShardSet(url)
    hashed.write_text("")  # forgets the index
    shown(data, IMAGES, workers=2)
    assert len(hashed.read_text().split()) == (len(data.index.shards) if index == "older" else 0)


def test_two_readers_of_one_machine_download_every_shard_once_between_them(local, url, proxied):
    """As ranks do: each with a client and a cache of its own, in one folder."""
    wanted = shown(ShardSet(local), IMAGES)
    readers = [ShardSet(url) for _ in range(2)]
    proxied.asked.clear()
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda data: shown(data, IMAGES), readers))
    assert got == [wanted, wanted]
    asked = Counter((path, start) for method, path, start in proxied.asked if method == "GET" and path.endswith(".tar"))
    assert len({path for path, _ in asked}) == 5
    assert set(asked.values()) == {1}


@pytest.mark.parametrize("fault", ["500", "503", "slow", "cut", "reset", "flip"])
def test_a_fault_that_passes_is_healed(local, url, proxied, fault):
    seen = Counter()

    def plan(method, path, start):
        seen[method, path, start] += 1
        return fault if seen[method, path, start] == 1 and (start > 0 or fault != "flip") else None

    proxied.plan = plan
    assert shown(ShardSet(url), IMAGES) == shown(ShardSet(local), IMAGES)
    assert proxied.faults.count(fault) >= 5


def test_without_crc32s_flips_are_found_by_the_sha256(local, older, proxied):
    flipped = Counter()

    def plan(method, path, start):
        flipped[path, start] += 1
        return "flip" if path.endswith(".tar") and flipped[path, start] == 1 and start == 1500 else None

    proxied.plan = plan
    assert shown(ShardSet(older), IMAGES) == shown(ShardSet(local), IMAGES)
    assert set(tars_asked(proxied).values()) == {2}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("again", [0, 1])
def test_what_the_disk_changed_is_found_by_the_crc32_and_downloaded_again(local, url, proxied, fresh, workers, again):
    """Bytes of the length that they had, so that nothing but the crc32 tells; the store flips some once more."""
    first = ShardSet(url)
    shown(first, IMAGES)
    path = fresh / first.index.shards[2].sha256
    content = bytearray(path.read_bytes())
    for row in range(10, 15):
        content[first.index.offset[row] + 50] ^= 1
    path.write_bytes(content)
    proxied.asked.clear()
    proxied.plan = lambda method, path, start: (
        "flip" if start == 1500 and proxied.faults.count("flip") < again else None
    )
    got = shown(ShardSet(url), 2 * IMAGES, workers=workers)
    assert got == shown(ShardSet(local), 2 * IMAGES)
    assert tars_asked(proxied) == {"pets-000002.tar": 1 + again}


def test_a_stalled_answer_is_not_waited_for(local, url, proxied, monkeypatch):
    monkeypatch.setattr(stores, "TIMEOUT", 0.5)
    proxied.plan = lambda method, path, start: "stall" if start == 1500 and len(proxied.faults) < 2 else None
    proxied.stall = 60.0
    assert torch.equal(ShardSet(url)[0][0], ShardSet(local)[0][0])
    assert proxied.faults == ["stall", "stall"]


def test_a_body_that_is_cut_is_gone_on_with_by_range(url, proxied):
    seen = Counter()

    def plan(method, path, start):
        seen[path, start] += 1
        return "cut" if path.endswith(".tar") and start == 3000 and seen[path, start] == 1 else None

    proxied.plan = plan
    data = ShardSet(url)
    proxied.asked.clear()
    data[0]
    starts = [start for method, path, start in proxied.asked if method == "GET"]
    assert starts[:4] == [0, 1500, 3000, 3000]
    assert starts.count(0) == 1


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("503", r"the store failed for \d seconds \(503 SlowDown\); see whether"),
        ("reset", r"the store failed for \d seconds \("),
        ("expired", r"the store refuses access \(400 ExpiredToken\); renew the credentials"),
    ],
)
def test_a_fault_that_stays_is_told_with_its_place_and_in_time(url, proxied, fault, text, monkeypatch):
    monkeypatch.setattr(stores, "GIVE_UP", 0.5)
    data = ShardSet(url)
    proxied.plan = lambda method, path, start: fault if start >= 1500 else None
    assert re.search(rf"^{url}/pets-000000\.tar at byte 1500: {text}", told(lambda: data[0]))
    assert proxied.faults.count("expired") in (0, 3)


def test_wrong_credentials_are_told_without_a_secret(url, monkeypatch, caplog, capfd):
    for name, value in faulty_s3.environment(os.environ["AWS_ENDPOINT_URL"], "another-secret").items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG):
        text = told(lambda: ShardSet(url))
    assert "refuses access (403" in text
    said = caplog.text + "".join(capfd.readouterr())
    assert "another-secret" not in text + said
    assert faulty_s3.KEY not in text + said


@pytest.mark.parametrize("bad", ["s3://me:hidden@bucket/x", "https://host/x?token=hidden", "s3://hidden@bucket/x"])
def test_a_url_with_a_secret_in_it_is_refused_without_repeating_it(bad):
    text = told(lambda: ShardSet(bad))
    assert "must hold no user, password or query" in text
    assert "hidden" not in text


def test_a_missing_shard_is_named(url, proxied):
    data = ShardSet(url)
    proxied.plan = only_tars("missing")
    assert f"{url}/pets-000000.tar is missing; upload that shard again" in told(lambda: data[0])


def test_a_truncated_shard_is_named(local, url):
    content = (local / "pets-000001.tar").read_bytes()
    open_store(url).put("pets-000001.tar", content[:4000])
    text = told(lambda: ShardSet(url)[5])
    assert f"{url}/pets-000001.tar must be {len(content)} bytes, got 4000: it ends at byte 4000" in text


def flip(local: Path, url: str, rows: tuple[int, ...]) -> None:
    """Flips bytes of images of shard 1, lastingly."""
    index, content = read_index(local), bytearray((local / "pets-000001.tar").read_bytes())
    for row in rows:
        content[index.offset[row] + 50] ^= 1
    open_store(url).put("pets-000001.tar", bytes(content))


def test_flipped_bytes_that_stay_are_named_and_found_out_once_and_images_beside_them_are_read(local, url, proxied):
    flip(local, url, (5, 7))
    index = read_index(local)
    data = ShardSet(url)
    proxied.asked.clear()
    wanted = rf"image \S+ at byte {index.offset[5]} in shard {url}/pets-000001\.tar has not the crc32 that the index"
    assert re.match(wanted, told(lambda: data[5]))
    assert tars_asked(proxied) == {"pets-000001.tar": 3}
    assert torch.equal(data[6][0], ShardSet(local)[6][0])
    assert f"at byte {index.offset[7]} in shard {url}" in told(lambda: data[7])
    assert tars_asked(proxied) == {"pets-000001.tar": 3}


def test_without_crc32s_a_shard_with_flipped_bytes_is_named_and_found_out_once(local, older, proxied):
    url, content = older, bytearray((local / "pets-000001.tar").read_bytes())
    content[2000] ^= 1
    open_store(url).put("pets-000001.tar", bytes(content))
    data = ShardSet(url)
    proxied.asked.clear()
    text = told(lambda: data[5])
    assert f"{url}/pets-000001.tar has not the sha256 that the index says, 3 times over" in text
    before = len(proxied.asked)
    assert told(lambda: data[6]) == text
    assert len(proxied.asked) == before


def test_an_index_of_other_shards_is_told(local, url, tmp_path):
    head = json.loads((local / "index.json").read_text())
    head["shards"][2]["sha256"] = head["shards"][1]["sha256"]
    head["shards"][3]["samples"] += 1
    open_store(url).put("index.json", json.dumps(head).encode())
    assert "disagree on the number of samples" in told(lambda: ShardSet(url))
    index = read_index(local)
    upload_index(replace(index, crc32=index.crc32[::-1]), open_store(url))
    assert "pets-000002.tar has not the crc32" in told(lambda: ShardSet(url)[10])


def test_without_crc32s_an_index_of_other_shards_is_told_too(local, older):
    index = read_index(older)
    shards = (*index.shards[:2], replace(index.shards[2], sha256=index.shards[1].sha256), *index.shards[3:])
    upload_index(replace(index, shards=shards), open_store(older))
    assert "pets-000002.tar has not the sha256" in told(lambda: ShardSet(older)[10])


def test_a_url_without_an_index_is_told(s3, fresh):
    assert f"s3://{faulty_s3.BUCKET}/nothing is not a packed data set" in told(
        lambda: ShardSet(f"s3://{faulty_s3.BUCKET}/nothing")
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_up_to_a_share_is_left_out_and_told(local, url, workers):
    open_store(url).put("pets-000001.tar", b"")
    data, said = ShardSet(url), []
    whole = names(ShardSet(local), local, 2 * IMAGES)
    got = names(data, local, 2 * IMAGES, workers=workers, tolerated=0.3, report=said.append)
    lost = set(range(5, 10))
    assert not lost & set(got)
    for place, image in enumerate(whole):  # every other place is as it was
        if image not in lost:
            assert got[place] == image
    assert len(said) == 1
    assert said[0].startswith(f"left out, 1 of 24 images by now: {url}/pets-000001.tar must be")
    with pytest.raises(DamageError, match=r"pets-000001\.tar must be"):
        shown(data, 2 * IMAGES, workers=workers, tolerated=0.2, report=said.append)
    gc.collect()  # ends the worker of the reader that stopped, here and not in a process that is forked later


@pytest.mark.parametrize("workers", [0, 1])
def test_of_a_shard_with_flipped_bytes_that_stay_the_damaged_images_alone_are_left_out(local, url, proxied, workers):
    flip(local, url, (5, 7))
    whole, said = names(ShardSet(local), local, 2 * IMAGES), []
    proxied.asked.clear()
    got = names(ShardSet(url), local, 2 * IMAGES, workers=workers, tolerated=0.1, report=said.append)
    assert not {5, 7} & set(got)
    assert all(shown == image for shown, image in zip(got, whole, strict=True) if image not in (5, 7))
    assert len(said) == 2
    assert all(re.search(r"pets-000001\.tar has not the crc32 that the index says", line) for line in said)
    assert tars_asked(proxied)["pets-000001.tar"] == 3


def inject(url: str, proxied, faults: int, monkeypatch) -> None:
    """Whole epochs while half of the answers are broken, until so many were: every image once in each."""
    draw, flipped = random.Random(1), Counter()

    def plan(method, path, start):
        if not path.endswith(".tar") or draw.random() < 0.5:
            return None
        fault = draw.choices(["500", "503", "cut", "reset", "slow", "stall", "flip"], [5, 5, 5, 5, 5, 0.1, 1])[0]
        flipped[path] += fault == "flip"
        return None if fault == "flip" and flipped[path] % 8 != 1 else fault

    monkeypatch.setattr(loader, "WINDOW", 8)
    monkeypatch.setattr(folders, "DOWNLOADS", 20)
    data = ShardSet(url)
    known = {data[i][0].numpy().tobytes(): (i, data[i][1]) for i in range(IMAGES)}
    proxied.plan, proxied.stall = plan, 4.0
    cache = data.index.folder._cache.folder
    epoch = 0
    while len(proxied.faults) < faults:
        workers = epoch % 3
        data.close()
        faulty_s3.wait_for_prefetches()  # whose files would change while they are dropped
        for path in cache.iterdir():
            path.unlink()  # each epoch begins with nothing
        got = shown(data, IMAGES, workers=workers, start=epoch * IMAGES // 2)
        assert sorted(known[content][0] for content, _ in got) == list(range(IMAGES))
        assert all(known[content][1] == label for content, label in got)
        epoch += 1
    assert {"500", "503", "cut", "reset", "slow", "flip"} <= set(proxied.faults)


def test_no_image_is_repeated_dropped_or_halved_under_60_faults(url, proxied, monkeypatch):
    inject(url, proxied, 60, monkeypatch)


@pytest.mark.slow
def test_no_image_is_repeated_dropped_or_halved_under_1000_faults(url, proxied, monkeypatch):
    inject(url, proxied, 1000, monkeypatch)
