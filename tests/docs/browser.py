"""Headless Chromium by the WebDriver protocol (W3C), spoken with what the standard library has."""

import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHONE = {"width": 390, "height": 844, "pixelRatio": 2.0, "mobile": True, "touch": True}
SWITCHES = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]


class Browser:
    """One window of the size of a phone."""

    def __init__(self, base: str) -> None:
        options = {
            "binary": CHROMIUM,
            "args": SWITCHES,
            "mobileEmulation": {"deviceMetrics": PHONE},
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._base = base
        created = self._call("session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"session/{created['sessionId']}"

    def _call(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        content = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self._base}/{path}", content, {"content-type": "application/json"})
        request.method = method
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        """Load a page and wait for its end."""
        self._call(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run JavaScript; give what it returns."""
        return self._call(f"{self._session}/execute/sync", {"script": script, "args": []})

    def complaints(self) -> list[str]:
        """Give what the browser has logged since the last call."""
        return [entry["message"] for entry in self._call(f"{self._session}/se/log", {"type": "browser"})]

    def screenshot(self) -> str:
        """Give a picture of what is seen, PNG in base64."""
        return self._call(f"{self._session}/screenshot", method="GET")

    def close(self) -> None:
        """End it."""
        self._call(self._session, method="DELETE")


@contextlib.contextmanager
def phone() -> Iterator[Browser]:
    """Run a browser for the length of a block."""
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert driver.stdout is not None
        told = next(line for line in driver.stdout if "was started successfully on port" in line)
        browser = Browser(f"http://127.0.0.1:{told.split()[-1].rstrip('.')}")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait()
