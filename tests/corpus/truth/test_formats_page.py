"""The page of formats is current."""

from __future__ import annotations

import pytest

from nearfield.corpus.extractors import REGISTRY
from tests.corpus.truth.writers import libreoffice
from tools.formats import LIBREOFFICE_HEADING, PAGE, read_notes, render_page


def test_each_extractor_is_described() -> None:
    assert not set(REGISTRY.names()) - set(read_notes())


@pytest.mark.slow
@pytest.mark.process
def test_the_page_of_formats_is_current() -> None:
    page, current = PAGE.read_text(encoding="utf-8"), render_page()
    if not libreoffice.version() or libreoffice.version() not in page:  # that part was written by another version
        page, current = (text.partition(LIBREOFFICE_HEADING)[0].strip() for text in (page, current))
    assert page == current, "run: python -m tools.formats"
