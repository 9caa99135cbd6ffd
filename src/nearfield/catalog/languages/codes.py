"""Codes of languages: those of ISO 639, in any of their forms, and the language that each names."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from nearfield.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Names = Mapping[str, Mapping[str, str]]


def language_code(text: str, *, param: str | None = None) -> str:
    """Return the code of a language: of ISO 639-1 if it has one, else of 639-3.

    ``text`` is a code of ISO 639 in any case, which a script or region may follow: ``de``, ``deu``, ``pt-BR``.

    Raises:
        InputError: no language has it; the message names similar codes. ``param`` is the name of the argument.
    """
    code = find_language(text)
    if code is None:
        raise InputError(f"No language has the code {text[:40]!r}. {_similar(text)}", param=param)
    return code


def find_language(text: str) -> str | None:
    """Return the code as ``language_code`` does, None if no language has it."""
    table = _read_names()
    code = text.strip().lower().replace("_", "-").partition("-")[0]
    code = table["aliases"].get(code, code)
    return code if code in table["names"] else None


def language_name(code: str) -> str:
    """Return the English name of a language by its code, in any form that ``language_code`` takes."""
    return _read_names()["names"][language_code(code)]


def _similar(text: str) -> str:
    """Return the languages whose name, in English or in itself, or whose code is nearly the text."""
    table, word = _read_names(), text.strip().lower()[:40]
    names = {name.lower(): code for key in ("names", "native_names") for code, name in table[key].items()}
    close = [word] if word in names else difflib.get_close_matches(word, names, n=2, cutoff=0.8)
    known = table["names"] if len(word) <= 3 else ()
    codes = [names[name] for name in close] or difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    guess = " or ".join(f"{code!r} ({table['names'][code]})" for code in dict.fromkeys(codes))
    return f"Did you mean {guess}?" if guess else "Codes are those of ISO 639, such as de, zh or ceb."


@lru_cache(maxsize=1)
def _read_names() -> _Names:
    content: _Names = tomllib.loads((files(__package__) / "names.toml").read_text(encoding="utf-8"))
    return content
