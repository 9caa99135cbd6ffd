"""Catalogue: what is known about models beyond their own files, as data: one TOML a publisher."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from nearfield.errors import SettingsError, nearest
from nearfield.hub import Package, Pin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Score:
    """A published figure: its value, what it measures, and where it was published."""

    value: float
    benchmark: str
    source: str


@dataclass(frozen=True)
class Entry:
    """One model. What its folder omits (prompts, Matryoshka dimensions, licence) is filled in from here.

    ``max_length`` is the usable length in tokens; ``commercial`` whether the licence allows commercial use;
    ``pooling`` one of the modes of ``recipe.Pooling``; ``languages`` ISO 639-1 codes, or ``multilingual``.
    """

    id: str
    family: str
    dimensions: int
    max_length: int
    pooling: str
    licence: str
    aliases: tuple[str, ...] = ()
    revision: str | None = None
    parameters: int | None = None
    normalize: bool = True
    prompts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default_prompt_name: str | None = None
    matryoshka: tuple[int, ...] = ()
    similarity: str = "cosine"
    commercial: bool = True
    languages: tuple[str, ...] = ("en",)
    score: Score | None = None
    package: Package | None = None
    notes: str | None = None

    @property
    def pin(self) -> Pin:
        """Where its files are, for ``hub.locate``."""
        return Pin(self.id, self.revision, self.package)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it answers to: full id, short name, aliases."""
        return (self.id, self.id.rpartition("/")[2], *self.aliases)


_FIELDS = frozenset(item.name for item in fields(Entry))
_TABLES = {"score": Score, "package": Package}


def find(name: str) -> Entry | None:
    """Return the entry for a full id, short name or alias, whatever its case; None when there is none."""
    return _by_name().get(name.strip().lower())


def entries() -> tuple[Entry, ...]:
    """Return every entry, by id."""
    return _all()


@lru_cache(maxsize=1)
def _all() -> tuple[Entry, ...]:
    found = [entry for file, text in _texts() for entry in read(file, text)]
    return tuple(sorted(found, key=lambda entry: entry.id.lower()))


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, Entry]:
    table: dict[str, Entry] = {}
    for entry in _all():
        for name in {name.lower() for name in entry.names}:
            if name in table:
                raise SettingsError(f"The catalogue gives {name!r} to both {table[name].id} and {entry.id}.")
            table[name] = entry
    return table


def _texts() -> Iterator[tuple[str, str]]:
    for file in sorted(files(__name__).iterdir(), key=lambda path: path.name):
        if file.name.endswith(".toml"):
            yield file.name, file.read_text(encoding="utf-8")


def read(file: str, text: str) -> list[Entry]:
    """Read one publisher's TOML: ``[defaults]`` that all its models share, then ``[[model]]`` tables.

    Raises:
        SettingsError: a key is unknown, or a needed one is missing.
    """
    content = tomllib.loads(text)
    for key in content:
        if key not in ("defaults", "model"):
            raise SettingsError(f"{file}: unknown table {key!r}. {nearest(key, ('defaults', 'model'))}")
    defaults = content.get("defaults", {})
    return [_entry(file, {**defaults, **model}) for model in content.get("model", [])]


def _entry(file: str, facts: dict[str, Any]) -> Entry:
    unknown = next((key for key in facts if key not in _FIELDS), None)
    if unknown:
        raise SettingsError(f"{file}: {facts.get('id')}: unknown key {unknown!r}. {nearest(unknown, _FIELDS)}")
    values = {key: _freeze(key, value) for key, value in facts.items()}
    try:
        return Entry(**values)
    except TypeError as error:
        raise SettingsError(f"{file}: {facts.get('id')}: {error}") from error


def _freeze(key: str, value: Any) -> Any:
    if key in _TABLES:
        return _TABLES[key](**value)
    if isinstance(value, list):
        return tuple(value)
    return MappingProxyType(value) if isinstance(value, dict) else value
