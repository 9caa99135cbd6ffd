"""A browser for tests of the console: tabs that collect errors, hostile texts, and what axe-core finds.

It needs Chromium, ``pip install playwright``, and axe-core (``npm pack axe-core``): ``AXE_CORE`` is its ``axe.min.js``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_CORE", "axe.min.js"))
MARKS = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not AXE.is_file(), reason="AXE_CORE does not name axe.min.js of axe-core"),
]

#: Markup that would run if a text of it were read as markup.
ATTACK = "<img src=x onerror=window.attacked=1><svg onload=window.attacked=1>"
#: Values of JavaScript that are shown only by mistake.
VALUES = {"false", "true", "undefined", "null", "NaN", "[object Object]"}
THEMES = {"light": (1280, 900), "dark": (390, 844)}
Act = Callable[[Any], None]


def press(name: str) -> Act:
    """Return what presses a button."""
    return lambda page: page.get_by_role("button", name=name, exact=True).click()


def fill(label: str, text: str, button: str) -> Act:
    """Return what fills a control, and presses a button."""

    def act(page: Any) -> None:
        page.get_by_label(label, exact=True).fill(text)
        press(button)(page)

    return act


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield Chromium."""
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser: Any, key: str = "", scheme: str = "light") -> Any:
    """Open a tab with a key; ``page.problems`` collects errors, and addresses that are not the server's."""
    width, height = THEMES[scheme]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    if key:
        context.add_init_script(f"if (location.protocol === 'http:') sessionStorage.setItem('nearfield-key', '{key}')")
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.problems.append(request.url) if _is_foreign(page, request) else None)
    return page


def _is_foreign(page: Any, request: Any) -> bool:
    return (
        not request.url.startswith("blob:")
        and page.url != "about:blank"
        and (urlsplit(request.url).netloc != urlsplit(page.url).netloc)
    )


def wait_for(page: Any, text: str, timeout: float = 10_000) -> None:
    """Wait for a text; if it does not come, say what the page says."""
    try:
        page.get_by_text(text).first.wait_for(timeout=timeout)
    except playwright.TimeoutError:
        pytest.fail(f"{text!r} is not in: {page.inner_text('main')[-1000:]}", pytrace=False)


def check_page(page: Any, scheme: str) -> None:
    """Check that no text ran or is a value of the code, the page's width, and what axe-core finds."""
    assert page.evaluate("window.attacked") is None, page.url
    assert not set(page.inner_text("body").splitlines()) & VALUES, page.url
    assert page.evaluate("document.documentElement.scrollWidth") <= THEMES[scheme][0], page.url
    assert not serious_faults(page), page.url


def serious_faults(page: Any) -> list[str]:
    """Return what axe-core calls serious or critical."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found if fault["impact"] in ("serious", "critical")
    ]
