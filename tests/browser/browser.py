"""Debian's Chromium, driven by its own chromedriver through selenium, which downloads nothing."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".work" / "screenshots"
"""Where the tests leave what they saw."""


class Browser:
    """One window. Every page begins with the defaults: light, scripts allowed, 1280 x 900."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        subprocess.run([str(ROOT / "scripts" / "system.sh"), "chromium", "chromium-driver"], check=True, capture_output=True)
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-prefers-reduced-motion"):
            options.add_argument(flag)  # root has no sandbox, a container little /dev/shm
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))

    def quit(self) -> None:
        """End both processes."""
        self.driver.quit()

    def cdp(self, command: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        found: dict[str, Any] = self.driver.execute_cdp_cmd(command, parameters)
        return found

    def open(
        self, page: Path | str, *, dark: bool = False, scripts: bool = True, media: str = "", width: int = 1280, height: int = 900
    ) -> None:
        """Load a file or an address, and forget what was logged before."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.cdp("Emulation.setEmulatedMedia", features=scheme, media=media)
        self.cdp("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri() if isinstance(page, Path) else page)

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened, its own first."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the page wrote to the console: errors, and violations of its Content-Security-Policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def run(self, script: str, *args: object) -> Any:  # noqa: ANN401 - what a script returns
        """The value that a script returns."""
        return self.driver.execute_script(script, *args)

    def press(self, *keys: str) -> None:
        """Keys, one after another, for whatever has the focus."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def click(self, selector: str) -> None:
        """The first element of that selector."""
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def hover(self, selector: str) -> None:
        """The pointer over the first element of that selector."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.by import By

        ActionChains(self.driver).move_to_element(self.driver.find_element(By.CSS_SELECTOR, selector)).perform()

    def keep(self, name: str) -> None:
        """A screenshot of the window, for people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(self.cdp("Page.captureScreenshot", format="png")["data"]))
