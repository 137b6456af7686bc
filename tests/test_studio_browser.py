"""A visit to the studio in headless Chromium that reaches no host but the studio's own.

The screenshots of docs/studio.md are made by this visit, with the shipped model:

    STUDIO_MODEL=instruct-imagen-nano STUDIO_SCREENSHOTS=docs/images pytest -m browser tests/test_studio_browser.py
"""

from __future__ import annotations

import io
import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from studio_support import serving

from instruct_imagen.demo import demo_examples
from instruct_imagen.metadata import read_png_metadata
from instruct_imagen.pipeline import InstructImagenPipeline
from instruct_imagen.studio.drawing import PipelinePainter
from instruct_imagen.world import load_pack

pytestmark = pytest.mark.browser
MODEL, SCREENSHOTS = os.environ.get("STUDIO_MODEL"), os.environ.get("STUDIO_SCREENSHOTS")
PATIENCE_S = 90
MAX_SCREENSHOT_BYTES = 250_000


@dataclass
class Page:
    """A browser on the studio's page."""

    driver: Any
    address: str

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def one(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def until(self, holds: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        passing = (NoSuchElementException, StaleElementReferenceException, IndexError)
        return WebDriverWait(self.driver, PATIENCE_S, 0.1, passing).until(lambda _: holds())

    def open(self, dark: bool = False) -> None:
        self.driver.get(f"{self.address}/?__theme={'dark' if dark else 'light'}")
        self.until(lambda: self.one(".card.new"))

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def click(self, css: str) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.one(css))
        self.one(css).click()

    def choose(self, css: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(css)).select_by_value(value)

    def set(self, css: str, value: object) -> None:
        script = (
            "const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set; "
            "set.call(arguments[0], arguments[1]); for (const name of ['input', 'change', 'blur', 'pointerup']) "
            "arguments[0].dispatchEvent(new Event(name, {bubbles: true}));"
        )
        self.driver.execute_script(script, self.one(css), str(value))

    def text(self) -> str:
        return self.one("#instruction textarea").get_attribute("value")

    def message(self) -> str:
        """The newest message in words, which is then closed."""
        words = self.until(lambda: self.one(".toast-body").text)
        for button in self.all(".toast-close"):
            button.click()
        self.until(lambda: not self.all(".toast-body"))
        return words

    def drawn(self) -> list[str]:
        """The names of the pictures on the stage, once they are there."""
        self.until(lambda: self.all("#stage figcaption") and not self.all("#stage progress"))
        return [image.get_attribute("src").rsplit("/", 1)[1] for image in self.all("#stage figure img")]

    def shot(self, name: str, top: str | None = None) -> None:
        if SCREENSHOTS is None:
            return
        script = "window.scrollTo(0, 0)" if top is None else f"document.querySelector('{top}').scrollIntoView()"
        self.driver.execute_script(script)
        self.driver.execute_async_script("setTimeout(arguments[0], 700)")
        image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        path = Path(SCREENSHOTS) / f"studio-{name}.png"
        image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size < MAX_SCREENSHOT_BYTES


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    pytest.importorskip("gradio", reason="gradio is not installed")
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("Chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "hide-scrollbars", "window-size=1280,900"),
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(driver: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if MODEL is None:
        painter = PipelinePainter(request.getfixturevalue("pipeline"), "debug")
    else:
        shipped = InstructImagenPipeline.from_pretrained(MODEL)
        shipped.set_progress_bar_config(disable=True)
        painter = PipelinePainter(shipped, MODEL)
    pack = "builtin" if MODEL is None else "auto"
    with serving(painter, tmp_path_factory.mktemp("studio"), pack=pack) as address:
        yield Page(driver, address)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pictures to drop: two of one subject, and one in a style."""
    folder, pack = tmp_path_factory.mktemp("files"), load_pack("builtin" if MODEL is None else "auto")
    pictures: dict[str, Image.Image] = {}
    for seed in range(40):  # until a subject comes with two pictures
        subject, style = demo_examples(pack, 256, seed, tasks=("subject", "style"))
        references = subject.example.instruction.references
        pictures = {"one": references[0].image, "style": style.example.instruction.references[0].image}
        if len(references) > 1:
            pictures["two"] = references[1].image
            break
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    (folder / "text.png").write_text("no picture")
    return {path.stem: str(path) for path in folder.iterdir()}


def asked_hosts(driver: Any) -> set[str]:
    """The hosts of every request that the studio's page made since this was asked last."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = urlparse(message["params"]["request"]["url"])
            if url.scheme not in ("data", "blob", "chrome"):
                hosts.add(url.netloc)
    return hosts


def test_a_full_visit(page: Page, files: dict[str, str]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open()
    # two references, the first with two pictures
    page.one(".card.new input[type=file]").send_keys(f"{files['one']}\n{files['style']}")
    page.until(lambda: page.one(".card.m2 img"))
    page.one(".card.m1 .pictures input[type=file]").send_keys(files["two"])
    page.until(lambda: len(page.all(".card.m1 figure")) == 2)
    page.one(".card.m1 input[type=text]").send_keys("object")
    page.one(".card.m2 input[type=text]").send_keys("style")
    page.one("#instruction textarea").send_keys("Show the object of [ref#1] on a beach, in the style of ")
    page.until(lambda: "Reference 2 is never named" in page.one("#reading .hint").text)
    page.click(".card.m2 .marker")
    page.until(lambda: len(page.all("#reading .chip img")) == 2 and page.one("#reading .hint.ready"))
    assert page.text() == "Show the object of [ref#1] on a beach, in the style of [ref#2]"
    assert "object ×2" in page.one("#reading .chip.m1").text
    colours = [page.one(css).value_of_css_property("border-top-color") for css in ("#reading .chip.m1", ".card.m1")]
    assert colours[0] == colours[1]

    # a mask drawn by hand
    page.click("#by-hand button")
    canvas = page.until(lambda: page.one(".pad canvas"))
    page.until(canvas.is_displayed)
    page.click(".pad .done")
    assert page.one(".pad .notice").text == "Draw something first."
    page.choose(".pad .ground", page.one(".card.m1 img").get_attribute("src").rsplit("/", 1)[1].removesuffix(".png"))
    page.until(lambda: page.driver.execute_script("return document.querySelector('.pad .under').naturalWidth > 0"))
    page.set(".pad .size", 64)
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    strokes = ActionChains(page.driver).move_to_element_with_offset(canvas, -60, 10).click_and_hold()
    for step in (
        (20, -40),
        (40, -20),
        (40, 20),
        (20, 40),
        (-20, 40),
        (-40, 20),
        (-40, -20),
        (10, -40),
        (40, -10),
        (20, 30),
    ):
        strokes = strokes.move_by_offset(*step)
    strokes.release().perform()
    page.shot("mask", "#by-hand")
    page.click(".pad .done")
    page.until(lambda: page.one(".card.m3 input[type=text]").get_attribute("value") == "mask")
    page.click("#by-hand button")
    page.one("#instruction textarea").send_keys(", where [ref#3] is white.")
    page.until(lambda: page.one("#reading .chip.m3") and page.one("#reading .hint.ready"))
    name = page.one(".card.m3 img").get_attribute("src").rsplit("/", 1)[1]
    with urllib.request.urlopen(f"{page.address}/pictures/{name}") as answer:
        mask = np.asarray(Image.open(io.BytesIO(answer.read())).convert("L"))
    assert mask.shape == (512, 512) and set(np.unique(mask[::7, ::7])) >= {0, 255}
    assert 0.05 < (mask > 127).mean() < 0.4

    # drawing, watched
    page.click("#settings button")
    page.until(lambda: page.one("#count input[type=number]").is_displayed())
    page.set("#count input[type=number]", 2)
    page.set("#steps input[type=number]", 24 if MODEL else 100)
    page.shot("settings", "#settings")
    page.click("#settings button")
    page.click("#draw")
    page.until(lambda: len(page.all("#stage .stage img")) == 2 and "Step" in page.one("#stage .line").text)
    if SCREENSHOTS is not None:
        page.until(lambda: "Step" not in (line := page.one("#stage .line").text) or int(line.split()[1]) > 12)
        page.shot("denoising")
    first = page.drawn()
    assert len(first) == 2
    page.shot("result")

    # what can be done with it
    link = page.one("#stage figcaption a").get_attribute("href")
    with urllib.request.urlopen(link) as answer:
        made = read_png_metadata(answer.read())
    assert made.instruction == page.text() and [pair[0] for pair in made.references] == [1, 1, 2, 3]
    assert page.one("#stage figcaption a").get_attribute("download") == f"instruct-imagen-{made.seed}.png"
    page.click("#stage figcaption button[data-seed]")
    page.until(lambda: not page.one("#vary input").is_selected())
    page.click("#draw")
    page.until(lambda: page.all("#stage progress"))
    assert page.drawn() == first, "the same seed draws the same pictures"
    page.click("#stage figcaption button[data-name]")
    page.until(lambda: page.one(".card.m4 img"))

    assert asked_hosts(page.driver) == {urlparse(page.address).netloc}
    severe = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe


def test_cards_and_history(page: Page, files: dict[str, str]) -> None:
    page.open()
    page.one(".card.new input[type=file]").send_keys(f"{files['one']}\n{files['style']}")
    page.until(lambda: page.one(".card.m2 img"))
    before = page.one(".card.m1 img").get_attribute("src")
    page.one("#instruction textarea").send_keys("Follow [ref#1], in the style of [ref#2].")

    # controls, and the one that needs a network
    page.choose(".card.m1 select", "edge")
    page.until(lambda: page.one(".card.m1 img").get_attribute("src") != before)
    edges = page.one(".card.m1 img").get_attribute("src")
    assert page.one(".card.m1 input[type=text]").get_attribute("value") == "edge map"
    page.until(lambda: "edge map" in page.one("#reading .chip.m1").text)
    page.shot("controls")
    page.choose(".card.m1 select", "depth")
    page.until(lambda: "--depth-model FOLDER" in page.one(".board .notice").text)
    assert page.one(".card.m1 img").get_attribute("src") == edges
    page.choose(".card.m1 select", "picture")
    page.until(lambda: page.one(".card.m1 img").get_attribute("src") == before)

    # cards change places, and the markers in the text follow
    page.click(".card.m1 button[aria-label='Move [ref#1] to the right']")
    page.until(lambda: page.text() == "Follow [ref#2], in the style of [ref#1].")
    assert page.one(".card.m2 img").get_attribute("src") == before
    page.click(".card.m1 button[aria-label='Remove [ref#1]']")
    page.until(lambda: page.text() == "Follow [ref#1], in the style of .")
    assert len(page.all(".card")) == 2

    # the history fills the page again
    page.click("#draw")
    (name,) = page.drawn()
    page.one("#instruction textarea").clear()
    page.one("#instruction textarea").send_keys("A fox.")
    page.click(".card.m1 button[aria-label='Remove [ref#1]']")
    page.until(lambda: page.text() == "A fox." and len(page.all(".card")) == 1)
    page.click("#draw")
    page.until(lambda: len(page.all("#history li")) == 2)
    page.click("#history li:last-child button")
    page.until(lambda: page.text() == "Follow [ref#1], in the style of ." and page.one(".card.m1 img"))
    assert page.drawn() == [name]


def test_what_is_wrong_is_said_in_words(page: Page, files: dict[str, str]) -> None:
    page.open()
    page.click("#draw")
    assert "The text is empty; say what to draw." in page.message()
    page.one(".card.new input[type=file]").send_keys(files["text"])
    page.until(lambda: "'text.png' is not a picture" in page.one(".board .notice").text)
    page.one("#instruction textarea").send_keys("Draw [ref#2].")
    page.until(lambda: page.one("#reading .chip.missing"))
    page.click("#draw")
    assert "add that reference" in page.message()
    assert "Traceback" not in page.one("body").text


def test_by_keyboard_alone(page: Page) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.open()

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def reach(css: str) -> None:
        for _ in range(60):
            press(Keys.TAB)
            if page.driver.execute_script("return document.activeElement.matches(arguments[0])", css):
                return
        raise AssertionError(f"Tab does not reach {css}")

    reach("#example input")
    for _ in range(3):  # the list opened with the focus
        press(Keys.ARROW_DOWN)
    press(Keys.ENTER)
    page.until(lambda: page.one(".card.m1 img"))
    reach("#instruction textarea")
    reach("#draw")
    reach(".card.m1 .marker")
    written = page.text()
    press(Keys.ENTER)
    page.until(lambda: page.text().count("[ref#1]") == written.count("[ref#1]") + 1)
    reach(".card.m1 input[type=text]")
    reach(".card.m1 select")
    reach("#by-hand button")
    press(Keys.ENTER)
    page.until(lambda: page.one(".pad canvas").is_displayed())
    reach(".pad canvas")
    press(" ", Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, " ")
    reach(".pad .done")
    cards = len(page.all(".card"))
    press(Keys.ENTER)
    page.until(lambda: len(page.all(".card")) == cards + 1)
    page.click(f".card.m{cards} .marker")
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    page.drawn()


def test_stop(page: Page) -> None:
    page.open()
    page.one("#instruction textarea").send_keys("A fox.")
    page.click("#settings button")
    page.until(lambda: page.one("#steps input[type=number]").is_displayed())
    page.set("#count input[type=number]", 8)
    page.set("#steps input[type=number]", 100)
    page.click("#draw")
    page.until(lambda: page.all("#stage progress"))
    page.click("#stop")
    page.until(lambda: "Stopped." in page.one("#stage").text)
    assert not page.all("#history li")


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen(page: Page, files: dict[str, str], dark: bool) -> None:
    page.resize(390, 844)
    try:
        page.open(dark)
        page.one(".card.new input[type=file]").send_keys(f"{files['one']}\n{files['style']}")
        page.until(lambda: page.one(".card.m2 img"))
        page.one("#instruction textarea").send_keys("Draw [ref#1] in the style of [ref#2].")
        for css in ("#by-hand button", "#settings button"):
            page.click(css)
        page.until(lambda: page.one(".pad canvas").is_displayed() and page.one("#reading .hint.ready"))
        assert page.driver.execute_script("return document.scrollingElement.scrollWidth") <= 390
        page.click("#draw")
        page.drawn()
        visible = "const box = document.querySelector('#stage').getBoundingClientRect(); return box.top < innerHeight"
        page.until(lambda: page.driver.execute_script(visible))
        assert page.driver.execute_script("return document.scrollingElement.scrollWidth") <= 390
        page.shot("narrow-dark" if dark else "narrow")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
