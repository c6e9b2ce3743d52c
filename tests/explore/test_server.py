"""The server: what it hands out, to whom, and what it refuses."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from trained import trained

import hmgan
from hmgan.errors import UserError
from hmgan.explore.address import read
from hmgan.explore.gallery import Gallery, digest_of
from hmgan.explore.server import FILES, Server
from hmgan.explore.turns import MOST_WAITING, LeftError, Turns
from hmgan.models.looks import Look


@pytest.fixture(scope="module")
def gallery(shards, source, tmp_path_factory):
    run = trained(shards, source, tmp_path_factory.mktemp("explored") / "run")[1]
    return Gallery({"insects": hmgan.load(run), "source": hmgan.load(source)})


@pytest.fixture(scope="module")
def server(gallery):
    with Server(gallery) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_an_image_is_a_function_of_its_address_and_may_be_kept_for_ever(server, gallery):
    (digest, model), _ = gallery.models.items()
    address = f"/image?model={digest}&classes=1:1&seeds=7&trunc=0.8"
    answer, body = ask(server, address)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    drawn = np.asarray(Image.open(io.BytesIO(body)))
    assert np.array_equal(drawn, model.sample(7, "bee", truncation=0.8)[0])
    again = Gallery(
        {
            "other": hmgan.models.model.Model(
                hmgan.generators.snapshot.Loaded(model.generator, model.classes, model.config, model.transfer)
            )
        }
    )
    assert again.png(read(address.partition("?")[2])) == body


def test_without_classes_an_image_is_of_the_source(server, gallery):
    transfer, source = gallery.models
    images = [ask(server, f"/image?model={digest}&seeds=4")[1] for digest in (transfer, source)]
    assert images[0] == images[1]


def test_a_level_of_its_own_changes_the_image(server, gallery):
    digest = next(iter(gallery.models))
    images = {ask(server, f"/image?model={digest}&classes=0&seeds={seeds}")[1] for seeds in ("1", "1,1,1", "1,2,1")}
    assert len(images) == 2


def test_a_head_request_is_answered_without_a_body_and_a_post_not_at_all(server):
    answer, body = ask(server, "/", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert ask(server, "/", "POST")[0].status == 501


def test_every_answer_forbids_what_the_page_does_not_need(server):
    for path in (*FILES, "/model", "/nothing"):
        policy = ask(server, path)[0].headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy


def test_the_page_names_no_other_host_and_holds_no_inline_script_or_style(server):
    page = ask(server, "/")[1].decode()
    assert "style=" not in page
    assert "onclick=" not in page
    assert page.count("<script") == page.count('<script type="module" src="/page.js">')
    for path in FILES:
        text = ask(server, path)[1].decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text


def test_the_description_has_classes_and_no_path(server, gallery):
    described = json.loads(ask(server, "/model")[1])
    assert [m["name"] for m in described["models"]] == ["insects", "source"]
    assert described["models"][0]["classes"] == list(tiny.CLASSES)
    assert not any("/" in str(value) for m in described["models"] for value in m.values())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_another_hosts_name_is_misdirected(server, host):
    assert ask(server, "/model", Host=host)[0].status == 421


def test_this_machines_names_are_answered(server):
    for host in ("localhost", f"127.0.0.1:{server.server_port}", "[::1]:80"):
        assert ask(server, "/model", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/page.html", "/%2e%2e/etc/passwd", "/etc/passwd", "//etc/passwd", "/?file=/etc/passwd"],
)
def test_no_path_of_a_request_is_opened(server, path):
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("file=/etc/passwd", "a query has model, classes, seeds, trunc, noise, towards, each once, got 'file'"),
        ("seeds=1&seeds=2", "each once, got 'seeds'"),
        ("seeds=-1", "a seed is a number from 0 to 2147483647, got '-1'"),
        ("seeds=2147483648", "a seed is a number"),
        ("seeds=1,2", "seeds are one, or one each for coarse, middle, fine, got 2"),
        ("trunc=1e9", "trunc is a number from 0 to 2, got '1e9'"),
        ("trunc=nan", "trunc is a number"),
        ("trunc=2.5", "trunc is a number from 0 to 2, got '2.5'"),
        ("towards=me", "towards is mean, class, got 'me'"),
        ("noise=loud", "noise is random, const, none, got 'loud'"),
        ("classes=a", "classes are up to 8 of PLACE or PLACE:WEIGHT, got 'a'"),
        ("classes=" + ",".join("012345678"), "classes are up to 8"),
        ("classes=0:0,1:0", "classes are named once each, with weights that are not all 0"),
        ("classes=0,0", "classes are named once each"),
        ("classes=0:7", "weight is a number from 0 to 1, got '7'"),
        ("seeds=" + "1" * 1001, "a query has at most 1000 characters, got 1007"),
    ],
)
def test_what_is_out_of_bounds_is_one_line(query, text):
    with pytest.raises(UserError) as error:
        read(query)
    assert text in str(error.value)


@pytest.mark.parametrize("query", ["model=0", "seeds=1&classes=0", "classes=99"])
def test_a_model_or_class_that_is_not_here_is_refused(server, gallery, query):
    digest = next(iter(gallery.models))
    query = query if "=99" not in query else f"model={digest}&{query}"
    answer, body = ask(server, f"/image?{query}")
    assert answer.status == 400
    assert body.count(b"\n") == 1


def test_weights_add_up_to_one_and_those_of_nothing_are_left_out():
    assert read("classes=0:0.25,1:0,2:0.25&seeds=3").look == Look((3,), ((0, 0.5), (2, 0.5)))


def test_the_digest_is_of_numbers_and_classes(gallery, source):
    first, second = gallery.models.values()
    assert digest_of(first) != digest_of(second)
    assert digest_of(hmgan.load(source)) == digest_of(second)


def test_the_newest_of_those_who_wait_comes_first_and_who_has_left_never():
    turns, done, began = Turns(), [], threading.Event()

    def wait(name, left=False):
        try:
            with turns.turn(lambda: left):
                done.append(name)
        except LeftError:
            done.append(f"{name} left")

    def hold():
        with turns.turn(lambda: False):
            began.set()
            while len(turns._waiting) < 3:
                time.sleep(0.001)

    holder = threading.Thread(target=hold)
    holder.start()
    began.wait()
    threads = []
    for i, name in enumerate(("old", "gone", "new")):
        threads.append(threading.Thread(target=wait, args=(name, name == "gone")))
        threads[-1].start()
        while len(turns._waiting) < i + 1 and holder.is_alive():
            time.sleep(0.001)
    for thread in (holder, *threads):
        thread.join()
    assert done == ["new", "gone left", "old"]


def test_too_many_who_wait_lose_the_oldest():
    turns, lost = Turns(), []
    turns._busy = True

    def wait(i):
        try:
            with turns.turn(lambda: False):
                pass
        except LeftError:
            lost.append(i)

    threads = []
    for i in range(MOST_WAITING + 1):
        threads.append(threading.Thread(target=wait, args=(i,)))
        threads[-1].start()
        while len(turns._waiting) + len(lost) < i + 1:
            time.sleep(0.001)
    with turns._changed:
        turns._busy = False
        turns._changed.notify_all()
    for thread in threads:
        thread.join()
    assert lost == [0]


def test_an_address_may_truncate_towards_the_class_where_the_model_keeps_its_centre(gallery):
    model = next(iter(gallery.models.values()))
    plain = hmgan.models.model.Model(
        hmgan.generators.snapshot.Loaded(model.generator, model.classes, model.config, model.transfer)
    )
    shape = (model.blocks, model.z_dim)
    plain.centres = {name: torch.full(shape, 0.5 + i) for i, name in enumerate(model.classes)}
    with_centres = Gallery({"insects": plain})
    (digest,) = with_centres.models
    assert digest not in gallery.models
    assert [each["centres"] for each in (*with_centres.described()["models"], *gallery.described()["models"])] == [
        True, False, False,
    ]  # fmt: skip
    body = with_centres.png(read(f"model={digest}&classes=1:1&seeds=7&trunc=0.5&towards=class"))
    wanted = plain.sample(7, "bee", truncation=0.5, towards="class")[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), wanted)
    assert body != with_centres.png(read(f"model={digest}&classes=1:1&seeds=7&trunc=0.5"))
    with pytest.raises(UserError, match="no centre of class 'bee' is kept"):
        gallery.png(read(f"model={next(iter(gallery.models))}&classes=1:1&trunc=0.5&towards=class"))
