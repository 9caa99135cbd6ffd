"""Tables of numbers (TOML) that name the source of each number: its day, its status and its page.

The form is that of ``[sources]`` in ``machines.toml``: ``"name" = ["2026-11-30", "third party", "https://..."]``. A row
names a source instead of repeating it, so that a page that has changed is read again once.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from nearfield.errors import SettingsError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.strict_toml import parse_toml
from nearfield.units import format_bytes

#: Bytes of the largest table that is read: some ten thousand rows.
_MAX_BYTES = 4_000_000


@dataclass(frozen=True)
class NumberSource:
    """Where a number was read: a name, the ``date`` (ISO 8601), a status, and an address or another description."""

    name: str
    date: str
    status: str
    address: str


def read_table(path: Path | None, included: str, kind: str, keys: Collection[str]) -> tuple[str, JsonDict]:
    """Read a TOML file, by default the included one: its name and its content, with no keys but ``keys``.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or has another key; the message names file and key.
    """
    name = str(path) if path else included
    try:
        text = read_bounded_text(path) if path else files(__package__).joinpath(included).read_text("utf-8")
        content = parse_toml(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name} cannot be read as a {kind}: {error}") from error
    check_keys(name, content, keys)
    return name, content


def read_bounded_text(path: Path) -> str:
    """Return the text of a table that a user wrote; a device or a file of data is refused before it fills the memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large for a table, or not in UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {format_bytes(_MAX_BYTES)}")
    return content.decode("utf-8")


def read_rows(file: str, content: JsonDict, key: str) -> list[JsonDict]:
    """Return the tables of ``[[key]]``; an empty or missing list is refused."""
    rows = content.get(key)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise SettingsError(f"{file} has no [[{key}]].")
    return rows


def read_sources(file: str, content: JsonDict, statuses: Sequence[str]) -> Mapping[str, NumberSource]:
    """Return the sources of a table by name.

    Raises:
        SettingsError: ``[sources]`` is missing, or one of them has another form, day or status.
    """
    table = content.get("sources")
    if not isinstance(table, dict) or not table:
        raise SettingsError(f"{file} has no [sources]: each number names where and when it was read.")
    return {name: _source(f"{file}: source {name!r}", name, value, statuses) for name, value in table.items()}


def _source(label: str, name: str, value: object, statuses: Sequence[str]) -> NumberSource:
    texts = isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) and part for part in value)
    if not isinstance(value, list) or not texts:
        raise SettingsError(f'{label} is a list of day, status and address, such as ["2026-11-30", "vendor", "https"].')
    date, status, address = value
    if status not in statuses:
        raise SettingsError(f"{label}: unknown status {status!r}. {nearest(status, statuses)}")
    try:
        datetime.date.fromisoformat(date)
    except ValueError:
        raise SettingsError(f"{label}: {date!r} is not a day such as 2026-11-30.") from None
    return NumberSource(name, date, status, address)


def find_source(label: str, name: object, sources: Mapping[str, NumberSource]) -> NumberSource:
    """Return the source that a row names, or raise SettingsError with the nearest name."""
    if not isinstance(name, str) or name not in sources:
        raise SettingsError(f"{label}: [sources] has no {name!r}. {nearest(name, sources)}")
    return sources[name]


def check_keys(label: str, row: Mapping[str, Any], known: Collection[str], required: Sequence[str] = ()) -> None:
    """Raise SettingsError for a key that is unknown, with the nearest one, or for one that is missing."""
    unknown = next((key for key in row if key not in known), None)
    if unknown is not None:
        raise SettingsError(f"{label}: unknown key {unknown!r}. {nearest(unknown, known)}")
    missing = [key for key in required if key not in row]
    if missing:
        raise SettingsError(f"{label} lacks {', '.join(missing)}.")


def positive_number(label: str, key: str, value: object) -> float:
    """Return a number above 0 and finite, or raise SettingsError with the key and the value."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, (int, float)) or not number or not 0 < value < float("inf"):
        raise SettingsError(f"{label}: {key} must be a number above 0, not {value!r}.")
    return float(value)
