"""The page of formats is current."""

from __future__ import annotations

import re

import pytest

from nearfield.corpus.extractors import REGISTRY
from tests.corpus.truth.writers import libreoffice
from tools.formats import LIBREOFFICE_HEADING, PAGE, render_page


def test_each_extractor_is_described() -> None:
    sections = re.split(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    described = {name for name, text in zip(sections[1::2], sections[2::2], strict=True) if "- Content: " in text}
    assert described == set(REGISTRY.names())


@pytest.mark.slow
@pytest.mark.process
def test_the_page_of_formats_is_current() -> None:
    page, current = PAGE.read_text(encoding="utf-8"), render_page()
    if not libreoffice.version() or libreoffice.version() not in page:  # that part was written by another version
        page, current = (text.partition(LIBREOFFICE_HEADING)[0].strip() for text in (page, current))
    assert page == current, "run: python -m tools.formats"
