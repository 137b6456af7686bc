"""A headless Chromium that does what raters do, and waits for what they would wait for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

DESKTOP, PHONE = (1280, 800), (390, 844)
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars""".split()
READY = "!document.getElementById('rate').hidden && !document.querySelector('#picture.waiting')"


def find_chromium() -> tuple[str, str]:
    """Paths of Chromium and its driver; where there are none it skips the test, so call it in the test's own thread."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
    return chromium, driver


class Browser:
    """One window of one person; use it as a context.

    Args:
        size: of the page, in CSS pixels.
        dark: whether the person prefers dark pages.
        calm: whether they prefer reduced motion.
    """

    def __init__(self, size: tuple[int, int] = DESKTOP, dark: bool = False, calm: bool = False) -> None:
        chromium, driver = find_chromium()
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        self.profile = tempfile.mkdtemp(prefix="rating-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in (*OPTIONS, f"--user-data-dir={self.profile}", f"--window-size={size[0]},{size[1]}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(30)
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        preferences = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "no-preference",
        }
        features = [{"name": name, "value": value} for name, value in preferences.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Until an expression is true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.03).until(lambda _: self.run(f"return {condition}"), condition)

    def page(self, name: str) -> None:
        """Until a page is shown."""
        self.wait(READY if name == "rate" else f"!document.getElementById('{name}').hidden")

    def open(self, url: str, page: str) -> None:
        """Opens an address in a new document, as from a message, and waits for a page."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.page(page)

    def press(self, *keys: str) -> None:
        """Presses keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def press_back(self) -> None:
        """Presses Shift and Tab."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).key_down("\ue008").send_keys("\ue004").key_up("\ue008").perform()

    def tab_to(self, element: str) -> None:
        """Presses Tab until an element has the focus."""
        for _ in range(40):
            if self.run("return document.activeElement?.id") == element:
                return
            self.press("\ue004")
        raise AssertionError(f"Tab does not reach {element}")

    def click(self, selector: str) -> None:
        """Clicks where an element is, as a mouse does."""
        self.driver.find_element("css selector", selector).click()

    def text(self, element: str) -> str:
        """What stands in an element."""
        return self.run("return document.getElementById(arguments[0]).textContent", element)

    def picture(self) -> str:
        """Id of the picture to rate."""
        return self.run("return document.getElementById('picture').src").rsplit("/", 1)[1]

    def rate(self, keys: Sequence[str]) -> str:
        """Answers by the keyboard and waits for the next picture or the end; returns the picture's id."""
        self.page("rate")
        picture = self.picture()
        done = self.text("progress-text")
        self.press(*keys, "\ue007")
        self.wait(f"document.getElementById('progress-text').textContent !== '{done}'")
        self.wait(f"!document.getElementById('done').hidden || ({READY})")
        return picture

    def shoot(self, name: str) -> Path:
        """Takes a picture of the page; into RATING_SCREENSHOTS if that is set."""
        folder = Path(os.environ.get("RATING_SCREENSHOTS") or self.profile)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rating-{name}.png"
        assert self.driver.save_screenshot(str(path))
        return path

    def complaints(self) -> list[str]:
        """What the console says: broken policies, scripts and requests."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
