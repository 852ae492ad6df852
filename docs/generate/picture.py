"""Make the README's picture: `python -m docs.generate.picture`, which needs chromium (make system-deps).

Comes in: the report of the bundle that ships. Goes out: `docs/images/report.png`, its explorer under `max_worse=0.05`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from turnout.serving.bundles.registry import find_bundle

PICTURE = Path(__file__).resolve().parents[1] / "images" / "report.png"
POLICY = "max_worse=0.05"
WIDTH_PX = 1000


def main() -> None:
    """Open the page, choose the policy, and cut out the chart with what it promises, without the form below."""
    page_path = find_bundle() / "report" / "index.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 2600}, color_scheme="light")
        page.goto(page_path.as_uri())
        page.get_by_role("button", name=POLICY, exact=True).click()
        page.evaluate("document.activeElement.blur()")
        section = page.locator("#explorer").bounding_box()
        last = page.locator("#at-cost").locator("xpath=ancestor::div[2]").bounding_box()
        if section is None or last is None:
            raise SystemExit(f"{page_path}: has no explorer")
        clip = {
            "x": section["x"] - 16,
            "y": section["y"] - 12,
            "width": section["width"] + 32,
            "height": last["y"] + last["height"] - section["y"] + 16,
        }
        page.screenshot(path=PICTURE, clip=clip)
        browser.close()


if __name__ == "__main__":
    main()
