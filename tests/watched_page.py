"""A page in a real browser, and all that it asked for or complained of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

Page = TypeVar("Page", bound="WatchedPage")


@dataclass
class WatchedPage:
    """A page that has been opened.

    Attributes:
        page: as Playwright gives it.
        requests: addresses that it asked for, its own first.
        complaints: what the console said, and errors of its scripts.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def text(self, element: str) -> str:
        """Return all text of the element with that id, shown or not."""
        return self.page.locator(f"#{element}").text_content()


def watched_page(kind: type[Page], browser: Any, url: str, **settings: object) -> Page:
    """Open a page in a context of its own, with these settings of Playwright's."""
    page = browser.new_context(**settings).new_page()
    watched = kind(page)
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("console", lambda message: watched.complaints.append(message.text))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.goto(url)
    return watched
