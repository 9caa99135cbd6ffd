"""The browser that the tests of the console share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; only tests that need it may ask for it."""
    from tests.support.console_browser import open_browser

    with open_browser() as opened:
        yield opened
