"""Purposes by name, and the one that a purpose and a language mean together."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nearfield.catalog.languages.codes import language_code, language_name
from nearfield.catalog.quality import quality_purposes
from nearfield.errors import InputError, nearest

#: What figures are published for, without languages, in the order of printed lists.
PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "retrieval": "texts that answer a query",
        "general": "all kinds of tasks together",
        "sts": "texts with the same meaning",
        "classification": "classifiers that are trained on vectors",
        "clustering": "groups of texts",
        "code": "source code, by words or by code",
        "long-documents": "texts of thousands of tokens",
        "images": "pictures, by words",
        "pages": "pictures of pages, by words",
        "audio": "sounds",
        "rerank": "the first results of a search, in order",
    }
)


def find_purpose(name: str, language: str | None = None, *, param: str = "purpose") -> str:
    """Return the purpose with figures that a name means, in a language: ``retrieval`` and ``de`` are ``retrieval:de``.

    ``name`` is one of ``PURPOSES`` or a whole name such as ``retrieval:de``. Without a language it is English where the
    purpose has languages. A purpose without languages, such as ``code``, is the same for all of them.

    Raises:
        InputError: the name is unknown, or there are no figures in the language. ``param`` is the argument's name.
    """
    known = quality_purposes()
    if name in known and not _languages(name):
        return name
    base, _, part = name.partition(":")
    if base not in PURPOSES:
        raise InputError(f"Unknown purpose {name[:60]!r}. {nearest(base, PURPOSES)}", param=param)
    code = language_code(part or language or "en", param=param if part else "language")
    if f"{base}:{code}" not in known:
        parts = sorted(purpose for purpose in known if purpose.partition(":")[0] == base)
        raise InputError(
            f"No figures are published for {base} in {language_name(code)}. There are: {', '.join(parts)}.", param=param
        )
    return f"{base}:{code}"


def _languages(name: str) -> frozenset[str]:
    """Return the languages of a purpose's figures; none if it is the same for all languages."""
    parts = {part for base, _, part in (purpose.partition(":") for purpose in quality_purposes()) if base == name}
    return frozenset(parts if "en" in parts else ())
