"""The page in a real browser: clicks, keys, links, both themes, and a narrow window."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch
from browser import ARROW_LEFT, ARROW_RIGHT, PATIENCE, Browser, found
from PIL import Image
from trained import trained

import hmgan
from hmgan.explore.gallery import Gallery
from hmgan.explore.server import Server

pytestmark = pytest.mark.skipif(not found(), reason="no chromium and chromedriver here: apt install chromium-driver")
SEEN = """
  const seen = document.createElement('canvas'), picture = document.querySelector('#figure-target img');
  seen.getContext('2d').drawImage(picture, 0, 0);
  return seen.toDataURL();
"""
SETTLED = "return !document.querySelector('#figure-target').hasAttribute('data-waiting')"
SHOWN = "return document.querySelector('#figure-target img')?.alt.includes(arguments[0])"


@pytest.fixture(scope="module")
def url(shards, source, tmp_path_factory):
    run = trained(shards, source, tmp_path_factory.mktemp("paged") / "run")[1]
    insects = hmgan.load(run)
    insects.centres = {
        name: torch.full((insects.blocks, insects.z_dim), 0.5 + i) for i, name in enumerate(insects.classes)
    }
    with Server(Gallery({"insects": insects, "tiny": hmgan.load(source)})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def window(folder):
    browser = Browser(folder)
    yield browser
    browser.close()


@pytest.fixture
def page(window, url):
    window.open("about:blank")
    window.open(url)
    window.wait(SHOWN, "ant")
    yield window
    assert window.complaints() == []


def state(page):
    return dict(part.split("=") for part in page.run("return location.hash.slice(1)").split("&"))


def test_a_click_and_a_key_choose_a_class_and_back_returns(page):
    page.click("#classes button[value='2']")
    page.wait(SHOWN, "cat")
    page.press("2")
    page.wait(SHOWN, "bee")
    assert state(page)["classes"] == "1:1.000"
    assert page.run("return document.querySelector('#classes [aria-pressed=true]').textContent") == "bee"
    page.press("z")
    page.wait(SHOWN, "cat")


def test_the_handle_blends_three_classes_and_arrows_move_it(page):
    page.drag("#triangle svg", (-20, 20), (0, 10), (0, 20))
    page.wait(SHOWN, "ant ")
    weights = [float(part.split(":")[1]) for part in state(page)["classes"].split(",")]
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(1, abs=0.002)
    page.run("document.querySelector('#triangle svg').focus()")
    page.press(ARROW_RIGHT)
    after = [float(part.split(":")[1]) for part in state(page)["classes"].split(",")]
    assert after[2] > weights[2]


def test_space_draws_new_styles_but_for_the_locked(page):
    page.press("q")
    assert page.run("return document.querySelectorAll('#levels [aria-pressed=true]').length") == 1
    page.press(" ")
    page.wait("return !location.hash.includes('seeds=0,0,0')")
    coarse, middle, fine = state(page)["seeds"].split(",")
    assert coarse == "0"
    assert middle == fine != "0"
    page.press("q")
    page.press(ARROW_RIGHT + ARROW_RIGHT + ARROW_LEFT)
    assert state(page)["seeds"] == "1,1,1"


def test_a_link_shows_the_same_picture_in_another_visit(page, url):
    page.press("3]]]s")
    page.wait("return document.querySelector('#figure-source img')?.naturalWidth")
    link = page.run("return location.href")
    shown = page.run("return document.querySelector('#figure-target figcaption').textContent")
    assert "trunc=1.15" in link
    page.open("about:blank")
    page.open(link)
    page.wait(SHOWN, "cat")
    page.wait("return document.querySelector('#figure-source img')?.naturalWidth")
    assert page.run("return document.querySelector('#figure-target figcaption').textContent") == shown
    assert page.run("return document.querySelector('#trunc').value") == "1.15"


def test_a_broken_link_falls_back_to_what_there_is(page, url):
    page.open("about:blank")
    page.open(f"{url}#model=nothing&classes=99:5&seeds=x,-3&trunc=99&noise=loud")
    page.wait(SHOWN, "ant")
    assert "another model" in page.run("return document.querySelector('#said').textContent")
    assert state(page)["seeds"] == "0,0,0"


def test_a_click_and_a_key_truncate_towards_the_class_where_its_centre_is_known(page):
    pictures, said = [], []
    for act in (lambda: page.press("[" * 10), lambda: page.click("#towards"), lambda: page.press("c")):
        act()
        page.wait(SETTLED)
        pictures.append(page.run(SEEN))
        said.append((page.run("return document.querySelector('#centre').textContent"), state(page).get("towards")))
    assert state(page)["trunc"] == "0.50"
    assert said == [("the mean", None), ("the class's centre", "class"), ("the mean", None)]
    assert pictures[0] == pictures[2] != pictures[1]
    assert page.run("return document.querySelector('#towards-part').checkVisibility()")
    page.run("""
      const select = document.querySelector('#model');
      select.value = select.lastChild.value;
      select.dispatchEvent(new Event('change'));
    """)
    page.wait(SHOWN, "tiny")
    assert not page.run("return document.querySelector('#towards-part').checkVisibility()")


def test_two_models_stand_side_by_side(page):
    page.run("""
      const select = document.querySelector('#beside');
      select.value = select.lastChild.value;
      select.dispatchEvent(new Event('change'));
    """)
    page.wait("return document.querySelector('#figure-beside img')?.naturalWidth")
    assert page.run("return document.querySelectorAll('#figures figure').length") == 2


def test_the_strip_and_the_history_are_pictures_to_click(page):
    loaded = "return [...document.querySelectorAll(arguments[0])].filter((i) => i.naturalWidth).length >= arguments[1]"
    page.wait(loaded, "#strip img", 8)
    page.click("#strip button:nth-child(5)")
    page.wait("return location.hash.includes('seeds=4,4,4')")
    page.wait(loaded, "#history img", 2)
    page.wait("return document.querySelector('#history button:nth-child(2)')?.getAttribute('aria-current') === 'false'")
    page.click("#history button:nth-child(2)")
    page.wait("return !location.hash.includes('seeds=4,4,4')")


def test_picture_and_parameters_are_downloaded(page, folder):
    page.press("2")
    page.wait(SHOWN, "bee")
    page.press("dp")
    names = ("bee-0.png", "bee-0.json")
    deadline = time.monotonic() + PATIENCE
    while not all((folder / name).exists() and (folder / name).stat().st_size for name in names):
        assert time.monotonic() < deadline  # the browser keeps the name with an empty file until all of it is there
        time.sleep(0.05)
    with Image.open(folder / "bee-0.png") as picture:
        assert picture.size == (8, 8)
    kept = json.loads((folder / "bee-0.json").read_text())
    assert kept["classes"] == {"bee": 1}
    assert kept["seeds"] == {"coarse": 0, "middle": 0, "fine": 0}
    assert kept["image"].startswith("/image?model=")


def test_dark_and_light_follow_the_system_until_a_person_chooses(page, url):
    back = "return getComputedStyle(document.body).backgroundColor"
    colours = {}
    for scheme in ("light", "dark"):
        page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours[scheme] = page.run(back)
    assert colours["light"] != colours["dark"]
    page.press("t")
    assert page.run(back) == colours["light"]
    page.run("localStorage.clear()")
    page.cdp("Emulation.setEmulatedMedia", features=[])


def test_a_phone_needs_no_scrolling_sideways(page, url):
    page.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    page.open("about:blank")
    page.open(url)
    page.wait(SHOWN, "ant")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    page.cdp("Emulation.clearDeviceMetricsOverride")
    page.click("#help")
    assert page.run("return document.querySelector('#keys').open")
    page.click("#keys button")


def test_of_a_drag_the_last_picture_is_shown(page):
    page.run("""
      const slider = document.querySelector('#trunc');
      for (let i = 0; i <= 30; i++) { slider.value = i * 0.05; slider.dispatchEvent(new Event('input')); }
    """)
    entries = "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => n.includes('/image'))"
    page.wait(f"{entries}.some((n) => n.includes('trunc=1.50'))")
    page.wait(SETTLED)
    drawn = {name for name in page.run(entries) if "classes=0:1.000&seeds=0,0,0&trunc=" in name}
    assert len(drawn) < 12
