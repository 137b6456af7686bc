"""Raters in a real browser: by keyboard, by touch, three at once, and with a server that goes away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from rating_browser import DESKTOP, PHONE, Browser, find_chromium
from rating_server import RatingServer
from rating_study import METHODS, write_world_suite

from instruct_imagen.cli import main
from instruct_imagen.rating.database import open_database
from instruct_imagen.rating.export import stored_ratings
from instruct_imagen.rating.raters import add_raters
from instruct_imagen.world import GlyphPack, find_font

pytestmark = pytest.mark.browser
TASKS = ("subject", "style_subject", "control_style", "multi_subject")
VALUES = {"1": 0.0, "2": 0.5, "3": 1.0}
CHOSEN = "return [...document.querySelectorAll('#questions input:checked')].map((input) => input.value)"
PLACES = """
return [...document.querySelectorAll('#picture, #references li:first-child, .choice, #save, .tools button')]
  .map((e) => e.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom]);
"""
MOVING = """
return [...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0).length;
"""


@dataclass
class Site:
    """A served study."""

    study: Path
    server: RatingServer

    def invite(self, name: str) -> str:
        """A new rater's link."""
        return add_raters(open_database(str(self.study)), [name])[0].link(self.server.url)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    pack = GlyphPack.from_font() if find_font() else GlyphPack.builtin()
    write_world_suite(folder, pack.prepare(), TASKS, 1, size_px=320)
    return folder


@pytest.fixture
def site(suite: Path, tmp_path: Path) -> Iterator[Site]:
    """Four instructions with three pictures each."""
    study = tmp_path / "study.sqlite3"
    methods = [f"--method={name}={suite / name}" for name in METHODS]
    title = ["--title", "Glyph world", "--seed", "9"]
    command = ["rate", "create", str(study), "--inputs", str(suite / "suite" / "suite.jsonl"), *methods, *title]
    assert main(command) == 0
    server = RatingServer(str(study))
    yield Site(study, server)
    server.stop()


def stored(site: Site) -> dict[tuple[str, str], tuple[float, float]]:
    """(SC, PQ) by rater and picture."""
    import sqlalchemy as sa

    from instruct_imagen.rating import schema

    columns = (
        schema.raters.c.name,
        schema.outputs.c.picture_id,
        schema.ratings.c.sc_halves,
        schema.ratings.c.pq_halves,
    )
    query = sa.select(*columns).select_from(schema.ratings).join(schema.raters).join(schema.outputs)
    with open_database(str(site.study)).reading() as connection:
        return {(row[0], row[1]): (row[2] / 2, row[3] / 2) for row in connection.execute(query)}


def test_ten_pictures_by_keyboard_with_undo_reload_pause_and_return(site, tmp_path):
    link = site.invite("Ada")
    said: dict[str, tuple[float, float]] = {}
    with Browser() as browser:
        browser.open(link, "welcome")
        assert "#" not in browser.driver.current_url and browser.run("return document.cookie") == ""
        assert "12 pictures to rate" in browser.text("welcome-text")
        browser.shoot("welcome")
        browser.tab_to("begin")
        browser.press("\ue007")
        for keys in ("31", "22", "13"):
            said[browser.rate(keys)] = (VALUES[keys[0]], VALUES[keys[1]])

        # undo: the picture comes back with its answers, which can be changed
        browser.press("u")
        browser.wait("document.getElementById('progress-text').textContent.startsWith('2 of 12')")
        browser.page("rate")
        taken_back = browser.picture()
        assert list(said)[2] == taken_back
        assert browser.run(CHOSEN) == ["0", "1"]
        assert browser.rate("32") == taken_back
        said[taken_back] = (1.0, 0.5)

        # reload: at the same picture, without a question
        at = browser.picture()
        browser.driver.refresh()
        browser.page("rate")
        assert browser.picture() == at and browser.text("progress-text") == "3 of 12 rated"
        said[browser.rate("11")] = (0.0, 0.0)

        # pause, and still paused after a reload
        browser.press("3", "p")
        browser.page("paused")
        browser.driver.refresh()
        browser.page("paused")
        assert "4 of 12" in browser.text("paused-text")
        browser.tab_to("resume")
        browser.press("\ue007")
        for keys in ("33", "12"):
            said[browser.rate(keys)] = (VALUES[keys[0]], VALUES[keys[1]])
        assert browser.complaints() == []

    with Browser() as browser:  # another day, another machine
        browser.open(link, "welcome")
        assert browser.text("welcome-title") == "Welcome back, Ada"
        assert "6 of 12" in browser.text("welcome-text")
        browser.tab_to("begin")
        browser.press("\ue007")
        browser.page("rate")
        browser.press("3", "2")
        browser.press_back()  # to the first question, which is answered anew
        browser.press("1")
        assert browser.run("return document.querySelector('input[name=sc]:checked').value") == "0"
        said[browser.rate("")] = (0.0, 0.5)
        for keys in ("21", "23", "32"):
            said[browser.rate(keys)] = (VALUES[keys[0]], VALUES[keys[1]])
        assert browser.text("progress-text") == "10 of 12 rated"
        assert browser.complaints() == []
    assert len(said) == 10
    assert stored(site) == {("Ada", picture): answer for picture, answer in said.items()}
    assert main(["rate", "export", str(site.study), "--out", str(tmp_path / "out")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "ratings.jsonl").read_text().splitlines()]
    assert sorted((line["sc"], line["pq"]) for line in lines) == sorted(said.values())
    assert all(0 < line["seconds"] < 120 for line in lines)


def test_the_end_and_the_way_back_from_it(site):
    with Browser() as browser:
        browser.open(site.invite("Ada"), "welcome")
        browser.click("#begin")
        for k in range(12):
            browser.rate("123"[k % 3] + "3")
        browser.page("done")
        assert "Thank you" in browser.text("done-title")
        browser.press("u")
        browser.page("rate")
        assert browser.text("progress-text") == "11 of 12 rated"
        browser.rate("")
        browser.page("done")
        assert len(stored(site)) == 12 and browser.complaints() == []


def test_a_phone_shows_everything_and_is_rated_by_touch(site):
    with Browser(PHONE, calm=True) as browser:
        browser.open(site.invite("Ada"), "welcome")
        assert browser.run("return document.documentElement.scrollWidth") == PHONE[0]
        browser.click("#begin")
        browser.page("rate")
        width, height = PHONE
        assert browser.run("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
            width,
            height,
        ]
        places = browser.run(PLACES)
        assert len(places) == 12
        for left, top, right, bottom in places:
            assert left >= 0 and top >= 0 and right <= width and bottom <= height
            assert right - left >= 40 and bottom - top >= 40
        picture = browser.picture()
        browser.click("input[name=sc][value='0.5']")
        browser.click("input[name=pq][value='1']")
        browser.shoot("phone")
        browser.click("#save")
        browser.wait("document.getElementById('progress-text').textContent.startsWith('1 of')")
        assert stored(site) == {("Ada", picture): (0.5, 1.0)}
        browser.page("rate")
        browser.click("#output")
        browser.wait("document.getElementById('zoom').open && document.getElementById('zoom-picture').naturalWidth > 0")
        browser.click("#zoom-close")
        assert browser.complaints() == []


@pytest.mark.parametrize("size", [(320, 568), (360, 640), (820, 1180), (1024, 700), (1920, 1080)])
def test_no_screen_is_too_small_or_too_large(size, site):
    with Browser(size) as browser:
        browser.open(site.invite("Ada"), "welcome")
        browser.click("#begin")
        browser.page("rate")
        assert browser.run("return document.documentElement.scrollWidth") == size[0]
        box = browser.run(
            "const r = document.getElementById('save').getBoundingClientRect(); return [r.right, r.bottom]"
        )
        assert box[0] <= size[0] and box[1] <= size[1]
        shown = browser.run("return document.getElementById('picture').getBoundingClientRect().height")
        assert shown > min(size) * 0.25


def test_three_raters_at_once(site):
    find_chromium()
    failures: list[BaseException] = []
    seen: dict[str, list[str]] = {}
    links = {name: site.invite(name) for name in ("Ada", "Grace", "Edsger")}

    def work(name: str, keys: str) -> None:
        try:
            with Browser() as browser:
                browser.open(links[name], "welcome")
                browser.click("#begin")
                seen[name] = [browser.rate(keys) for _ in range(12)]
                browser.page("done")
                source = browser.driver.page_source
                assert not any(other in source for other in links if other != name)
                assert not any(method in source for method in METHODS)
                assert browser.complaints() == []
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(name, keys)) for name, keys in zip(links, ("11", "22", "33"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert len(stored(site)) == 36 and len(stored_ratings(open_database(str(site.study)))) == 36
    assert set(seen["Ada"]) == set(seen["Grace"]) == set(seen["Edsger"])
    assert len({tuple(order) for order in seen.values()}) == 3
    expected = {"Ada": (0.0, 0.0), "Grace": (0.5, 0.5), "Edsger": (1.0, 1.0)}
    assert all(answer == expected[name] for (name, _), answer in stored(site).items())


def test_an_answer_waits_for_a_server_that_comes_back(site):
    with Browser() as browser:
        browser.open(site.invite("Ada"), "welcome")
        browser.click("#begin")
        browser.page("rate")
        picture = browser.picture()
        site.server.kill()
        browser.press("3", "2", "\ue007")
        browser.wait("!document.getElementById('alert').hidden")
        assert "Not saved yet" in browser.text("alert-text")
        assert browser.run(CHOSEN) == ["1", "0.5"]
        site.server = RatingServer(str(site.study), site.server.port)
        browser.wait("document.getElementById('progress-text').textContent.startsWith('1 of')")
        browser.wait("document.getElementById('alert').hidden")
        assert stored(site) == {("Ada", picture): (1.0, 0.5)}
        site.server.stop()


def test_links_that_ended_lead_to_the_sign_in(site):
    link = site.invite("Ada")
    assert main(["rate", "raters", "revoke", str(site.study), "Ada"]) == 0
    with Browser() as browser:
        browser.open(link, "sign-in")
        assert "not valid" in browser.text("sign-in-why")
        other = site.invite("Grace")
        browser.tab_to("token")
        browser.press(*other, "\ue007")
        browser.page("welcome")
        assert browser.text("welcome-title") == "Welcome, Grace"
        browser.click("#begin")
        browser.page("rate")
        browser.press("g")
        browser.wait("document.getElementById('guidelines').open")
        browser.click("#sign-out")
        browser.page("sign-in")
        browser.driver.get(site.server.url)
        browser.page("sign-in")


def test_options_are_kept(site):
    with Browser() as browser:
        browser.open(site.invite("Ada"), "welcome")
        browser.click("#begin")
        browser.page("rate")
        browser.press("g")
        browser.wait("document.getElementById('guidelines').open")
        browser.shoot("guidelines")
        browser.click("#use-letters")
        browser.click("#save-at-once")
        browser.press("\ue00c")  # Escape
        browser.wait("!document.getElementById('guidelines').open")
        browser.driver.refresh()
        browser.page("rate")
        browser.press("p", "g", "u")
        assert browser.run("return document.getElementById('rate').hidden") is False
        browser.press("3", "3")  # saved without Enter
        browser.wait("document.getElementById('progress-text').textContent.startsWith('1 of')")


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_can_be_read_and_heard_by_everybody(dark, site):
    with Browser(DESKTOP, dark=dark, calm=True) as browser:
        browser.open(site.invite("Ada"), "welcome")
        _assert_readable(browser)
        browser.tab_to("begin")
        browser.press("\ue007")
        browser.page("rate")
        _assert_readable(browser)
        browser.press("2")
        browser.shoot("dark" if dark else "desktop")
        browser.press("3")
        _assert_readable(browser)
        nameless = browser.run(
            "return [...document.querySelectorAll('button, input, a, progress, img')].filter(e => e.checkVisibility()"
            " && !(e.textContent.trim() || e.ariaLabel || e.alt || e.title || e.labels?.length"
            " || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"
        )
        assert nameless == []
        assert (
            browser.run("return document.querySelectorAll('h1').length >= 1 && document.documentElement.lang") == "en"
        )
        assert "Picture 1 of 12" in browser.text("status")
        assert browser.run(MOVING) == 0
        with Image.open(browser.shoot("last")) as image:
            assert image.size == DESKTOP


CONTRAST = """
const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const parse = (text) => text.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const poor = [];
for (const e of document.body.querySelectorAll('*')) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const seen = e.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  if (!own || !seen || e.closest(':disabled')) continue;
  const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) poor.push([contrast.toFixed(2), e.outerHTML.slice(0, 120)]);
}
return poor;
"""


def _assert_readable(browser: Browser) -> None:
    assert browser.run(CONTRAST) == []
