"""Take the README's picture of the console again, from a demo that runs: `make picture`.

The riskiest open alert of the live traffic, as Chromium draws it. Nothing in it is made up.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from demo.running import ENVIRONMENT_FILE
from harness.processes import PROJECT_FOLDER
from harness.settings import MachineSettings
from tests.browser.conftest import ARGUMENTS, type_login

PICTURE: Final = PROJECT_FOLDER / "docs" / "images" / "console.png"
_WIDTH, _HEIGHT = 1280, 900
_USER: Final = "analyst"


def _address(folder: Path) -> str:
    """Return where the console of the running demo is."""
    if not (folder / ENVIRONMENT_FILE).is_file():
        sys.exit(f"no demo runs in {folder}: start one by `make demo`, then try again")
    lines = (folder / ENVIRONMENT_FILE).read_text().splitlines()
    known = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    return f"http://127.0.0.1:{known['FRAUD_CONSOLE_PORT']}"


def take(folder: Path, picture: Path) -> None:
    """Log in, open the alert with the highest score, and keep its page as a PNG.

    Args:
        folder: Where the demo runs.
        picture: File to write.
    """
    browser_path = MachineSettings().browser
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.goto(f"{_address(folder)}/?sort=score")
        type_login(page, _USER, f"{_USER}-demo")
        page.wait_for_url(f"{_address(folder)}/**")
        page.goto(f"{_address(folder)}/?sort=score")
        page.locator("main a[href^='/alert']").first.click()
        page.wait_for_url("**/alert*/**")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take(
        Path(sys.argv[1] if len(sys.argv) > 1 else "var/demo"),
        Path(sys.argv[2] if len(sys.argv) > 2 else PICTURE),
    )
