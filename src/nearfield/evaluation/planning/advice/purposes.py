"""Purposes of vectors, and the published figures by which models are compared for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from nearfield import catalog
from nearfield.catalog.quality import quality_figures


@dataclass(frozen=True)
class Purpose:
    """What vectors are for. ``kinds`` are outputs that serve it, the usual one first; ``reads`` is the input.

    ``figure`` is the figure of ``catalog.quality`` to compare by, ``{language}`` standing for each language. A language
    without such a figure is compared by ``stand_in``, which is about many languages, or about none. ``has_queries``
    is whether something is searched: without, there are no queries, and no second stage that orders what bits find.
    """

    name: str
    summary: str
    kinds: tuple[str, ...]
    figure: str
    stand_in: str | None = None
    reads: str = "text"
    has_queries: bool = True

    @property
    def has_languages(self) -> bool:
        """Whether figures differ by language."""
        return "{language}" in self.figure


_SEARCH = ("dense", "sparse", "multivector")
_MANY = "general:multilingual"
PURPOSES: Mapping[str, Purpose] = MappingProxyType(
    {
        purpose.name: purpose
        for purpose in (
            Purpose("retrieval", "search by meaning", _SEARCH, "retrieval:{language}", "retrieval:multilingual"),
            Purpose("general", "several uses at once", ("dense",), "general:{language}", _MANY),
            Purpose(
                "sts", "similarity of sentences, duplicates", ("dense",), "sts:{language}", _MANY, has_queries=False
            ),
            Purpose(
                "classification", "labels for texts", ("dense",), "classification:{language}", _MANY, has_queries=False
            ),
            Purpose("clustering", "groups of texts", ("dense",), "clustering:{language}", _MANY, has_queries=False),
            Purpose("code", "search in source code", _SEARCH, "code"),
            # Long texts were measured in English alone; elsewhere search in the language says more.
            Purpose(
                "long-documents", "search in long texts", _SEARCH, "retrieval:{language}", "retrieval:multilingual"
            ),
            Purpose(
                "images",
                "search for pictures by words",
                ("dense",),
                "images:{language}",
                "images:multilingual",
                "image",
            ),
            Purpose(
                "image-labels", "labels for pictures", ("dense",), "images:labels", None, "image", has_queries=False
            ),
            Purpose("pages", "search in pictures of pages", ("multivector", "dense"), "pages", None, "image"),
            Purpose("audio", "search for sounds by words", ("dense",), "audio", None, "audio"),
            Purpose(
                "rerank",
                "a second, exact look at search results",
                ("scores",),
                "rerank:{language}",
                "rerank:multilingual",
            ),
        )
    }
)
#: Figures whose names do not follow the pattern of their purpose.
_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {("images", "en"): "images", ("long-documents", "en"): "long-documents"}
)


def figure_names(purpose: Purpose, languages: Iterable[str]) -> dict[str, str | None]:
    """Return for each language the name of the figure to compare by; None: nothing is published.

    Where figures do not differ by language, the first language stands for all.
    """
    compared = tuple(languages) if purpose.has_languages else tuple(languages)[:1]
    return {language: _figure_name(purpose, language) for language in compared}


def _figure_name(purpose: Purpose, language: str) -> str | None:
    name = _NAMES.get((purpose.name, language), purpose.figure.replace("{language}", language))
    return name if best_figure(name) is not None else purpose.stand_in


@lru_cache(maxsize=256)
def best_figure(name: str) -> float | None:
    """Return the best lower bound of a figure over the whole catalogue; None: no model has it.

    The best does not depend on what fits a need, so that points behind it mean the same everywhere.
    """
    known = (quality_figures(entry.id).get(name) for entry in catalog.entries())
    return max((figure.value - figure.error / 2 for figure in known if figure is not None), default=None)
