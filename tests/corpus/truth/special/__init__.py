"""Files for single faults: one module for each family of formats, with ``files()``."""

from __future__ import annotations

from collections.abc import Iterator

from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.special import (
    data,
    further_office,
    further_text,
    mail,
    pages,
    portable,
    presentations,
    sheets,
    text,
    word,
)


def files() -> Iterator[TruthFile]:
    """Yield all files for single faults."""
    for module in (portable, pages, sheets, word, presentations, text, data, mail, further_office, further_text):
        yield from module.files()
