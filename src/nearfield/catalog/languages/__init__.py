"""What is known of a model in a language: whether it was measured, whether its publisher lists it, or neither.

``python -m tools.quality.languages`` writes the tables of names and of lists.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages.codes import language_code
from nearfield.catalog.quality import measured_languages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LanguageGrade = Literal["good", "weak", "poor", "listed", "unknown"]
#: What the catalogue says of a model whose languages are too many for it, or that no list has.
MULTILINGUAL = "multilingual"
_MEASURED = "retrieval on Belebele beside the model's own English, embeddings-benchmark/results at f4cc6c8b365a"
#: All grades in which a model may be used.
USABLE: tuple[LanguageGrade, ...] = ("good", "listed", "weak")


@dataclass(frozen=True)
class LanguageSupport:
    """What is known of a model in the language ``code``, and from where.

    ``grade`` is measured: good (at least 85% of the score in English), weak (at least 50%) or poor; or else listed by
    the publisher, or unknown.
    """

    code: str
    grade: LanguageGrade
    source: str

    @property
    def is_usable(self) -> bool:
        """Whether the model was measured good or weak in the language, or is listed for it."""
        return self.grade in USABLE


def language_support(entry: CatalogEntry, code: str) -> LanguageSupport:
    """Return what is known of a model in a language. ``code`` is a code of ISO 639, such as ``de`` or ``pt-BR``.

    1. A model that reads no texts, and shares its vectors with no model of texts, knows no language: unknown.
    2. A measured grade counts for more than a list, except in English: grades are shares of the score in English, so
       that English has none.
    3. A language is listed if the catalogue's entry names it, or if the publisher's list of a multilingual model does.
       English is listed for every multilingual model.
    4. Any other language is unknown, of a multilingual model too.

    Raises:
        InputError: no language has the code.
    """
    code = language_code(code)
    if "text" not in entry.modalities and entry.text_model is None:
        return LanguageSupport(code, "unknown", "the model reads no texts")
    grade = None if code == "en" else measured_languages(entry.id).get(code)
    if grade is not None:
        return LanguageSupport(code, _GRADES[grade], _MEASURED)
    source = _listing(entry, code)
    return LanguageSupport(code, "unknown" if source is None else "listed", source or "neither measured nor listed")


_GRADES: Mapping[str, LanguageGrade] = {"good": "good", "weak": "weak", "poor": "poor"}


def is_multilingual(entry: CatalogEntry) -> bool:
    """Return whether a model is for several languages."""
    return MULTILINGUAL in entry.languages or len(entry.languages) > 1


def listed_languages(entry: CatalogEntry) -> tuple[str, ...]:
    """Return the codes of the languages that the catalogue or the publisher lists for a model, in order."""
    listed = {"en"} | set(_list_of(entry).get("codes", "").split()) if MULTILINGUAL in entry.languages else set()
    return tuple(sorted({*entry.languages, *listed} - {MULTILINGUAL}))


def _listing(entry: CatalogEntry, code: str) -> str | None:
    """Return where a language is listed for a model; None if it is not."""
    if code in entry.languages:
        return "the catalogue"
    if MULTILINGUAL not in entry.languages:
        return None
    row = _list_of(entry)
    if code in row.get("codes", "").split():
        series = f" (one series with {row['series']})" if "series" in row else ""
        return f"{_read_lists()['source']}{series}"
    return "the catalogue: multilingual" if code == "en" else None


def _list_of(entry: CatalogEntry) -> Mapping[str, str]:
    row: Mapping[str, str] = _read_lists().get(entry.id, {})
    return row


@lru_cache(maxsize=1)
def _read_lists() -> Mapping[str, Any]:
    return tomllib.loads((files(__name__) / "listed.toml").read_text(encoding="utf-8"))
