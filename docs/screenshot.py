"""`python docs/screenshot.py PAGE.html OUT.png [WIDTH [HEIGHT]]`: what a browser shows of a page, for the docs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main(page: str, out: str, width: str = "1200", height: str = "900") -> None:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--headless=new", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": int(width), "height": int(height)})
        tab.goto(Path(page).resolve().as_uri())
        tab.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
