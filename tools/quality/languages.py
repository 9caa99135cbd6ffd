"""The tables of ``src/nearfield/catalog/languages``: codes with names, and the languages that publishers list.

``python -m tools.quality.languages`` writes them: codes and names from Unicode's CLDR (in Babel), lists from the model
metadata of the package mteb, which contributors copy from the models' cards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from babel import Locale
from babel.core import get_global
from babel.localedata import exists

from nearfield import catalog
from nearfield.catalog.languages import MULTILINGUAL
from nearfield.catalog.languages.codes import find_language

TARGET = Path(__file__).parents[2] / "src/nearfield/catalog/languages"
#: Codes of languages that CLDR has no name for, and that have been measured or listed: names of ISO 639-3.
ADDED_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "ars": "Najdi Arabic",
        "acm": "Mesopotamian Arabic",
        "apc": "Levantine Arabic",
        "fuv": "Nigerian Fulfulde",
        "gaz": "West Central Oromo",
        "kac": "Kachin",
        "shn": "Shan",
    }
)
#: Codes that are written for another: CLDR prefers ``fil`` and leaves the other ones open.
ADDED_ALIASES: Mapping[str, str] = MappingProxyType({"fil": "tl", "nb": "no", "nob": "no", "nor": "no", "pbt": "ps"})
#: Models of one series with another, whose card gives one list for both.
SAME_SERIES: Mapping[str, str] = MappingProxyType(
    {f"Qwen/Qwen3-Reranker-{size}": f"Qwen/Qwen3-Embedding-{size}" for size in ("0.6B", "4B", "8B")}
)
#: What is no language: several, none, and an unknown one.
_SPECIAL = frozenset({"mis", "mul", "root", "und", "zxx"})


def render_names() -> str:
    """Return codes with names, and other codes of the same languages, as TOML."""
    names = {code: name for code, name in Locale("en").languages.items() if code.isalpha() and code not in _SPECIAL}
    names = {code: name for code, name in {**names, **ADDED_NAMES}.items() if code not in ADDED_ALIASES}
    names.setdefault("tl", "Filipino")
    shorter = {code: other for code, (other, *rest) in _aliases() if not rest and other in names and code not in names}
    aliases = {**shorter, **ADDED_ALIASES}
    lines = ["# Codes of languages (ISO 639-1, else 639-3) and their English names, from CLDR.", ""]
    lines += ["[names]", *_pairs(names), "", "[native_names]", *_pairs(_native_names(names)), ""]
    lines += ["[aliases]", *_pairs(aliases)]
    return "\n".join(lines) + "\n"


def _native_names(codes: Iterable[str]) -> Mapping[str, str]:
    """Return the names of languages in themselves, of those in which CLDR has texts."""
    locales = {code: Locale(code) for code in codes if exists(code)}
    return {code: name for code, locale in locales.items() if code != "en" and (name := locale.languages.get(code))}


def _aliases() -> Iterator[tuple[str, list[str]]]:
    for code, other in get_global("language_aliases").items():
        if code.isalpha():
            yield code, other.replace("fil", "tl").split("_")


def _pairs(table: Mapping[str, str]) -> Iterator[str]:
    for code, value in sorted(table.items()):
        yield f'{code} = "{value}"'


def render_lists(listed: Mapping[str, Collection[str]], same: Mapping[str, str]) -> str:
    """Return the languages that publishers list for models that the catalogue calls multilingual, as TOML.

    ``listed`` has codes such as ``deu-Latn`` by model. ``same`` names the model whose list is also another's.
    """
    lines = [
        "# Languages that publishers list for models of many languages. Written by tools/quality/languages.py.",
        "",
        f'source = "model metadata of mteb {version("mteb")}, from the model\'s card"',
        "",
    ]
    for entry in catalog.entries():
        model = same.get(entry.id, entry.id)
        codes = {code for text in listed.get(model, ()) if (code := find_language(text))}
        # A list of English alone contradicts the catalogue: it is incomplete.
        if MULTILINGUAL in entry.languages and len(codes) > 1:
            series = [f'series = "{model}"'] if model != entry.id else []
            lines += [f'["{entry.id}"]', f'codes = "{" ".join(sorted(codes))}"', *series, ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write both tables."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    (TARGET / "names.toml").write_text(render_names(), encoding="utf-8")
    listed = {name: tuple(meta.languages or ()) for name, meta in MODEL_REGISTRY.items()}
    (TARGET / "listed.toml").write_text(render_lists(listed, SAME_SERIES), encoding="utf-8")
    missing = sorted({code.partition("-")[0] for code in chain(*listed.values()) if not code.endswith("-Code")})
    print("Codes without a name:", *(code for code in missing if find_language(code) is None))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
