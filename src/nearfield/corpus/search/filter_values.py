"""Which values the fields of a filter have in a collection, for searches whose filter matches no document."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nearfield.corpus.extractors import kind_of
from nearfield.corpus.extractors.media.kinds import MEDIA_FIELDS
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.message_text import quote_name
from nearfield.stores.filters import All, Compare, Either, FieldType, Filter, parse_filter

#: Values that are named, values that are read, and characters of values that are compared.
_MAX_NAMED, _MAX_READ, _LONGEST = 10, 1000, 200
_ANY = "SELECT 1 FROM documents WHERE json_extract(fields, ?) IN (SELECT value FROM json_each(?)) LIMIT 1"
_TEXTS = "SELECT DISTINCT json_extract(fields, ?) FROM documents WHERE chunks > 0 ORDER BY 1 LIMIT ?"
_KINDS = "SELECT DISTINCT coalesce(json_extract(payload, '$.kind'), 'text') FROM chunks ORDER BY 1"
_NUMBERS = "SELECT min(json_extract(fields, ?1)), max(json_extract(fields, ?1)) FROM documents WHERE chunks > 0"


def describe_values(manifest: Manifest, where: object, fields: Mapping[str, FieldType]) -> str:
    """Return a sentence for each condition that no document meets: which values its field has instead.

    Args:
        manifest: the manifest of the collection.
        where: the filter, as the caller wrote it.
        fields: the fields for filters, with their types.
    """
    sentences = []
    for condition in _conditions(parse_filter(where, fields)):
        kind = fields.get(condition.field)
        if condition.field == "kind" and kind:
            sentences.append(_describe_kinds(manifest, condition))
        elif condition.field == "page" or condition.field in MEDIA_FIELDS:  # these are fields of chunks
            continue
        elif kind == "str":
            sentences.append(_describe_texts(manifest, condition))
        elif kind in ("int", "float"):
            sentences.append(_describe_numbers(manifest, condition))
    return " ".join(dict.fromkeys(filter(None, sentences)))


def _conditions(where: Filter | None) -> Iterator[Compare]:
    """Yield the conditions of a filter, but not those that must not hold."""
    if isinstance(where, Compare):
        yield where
    elif isinstance(where, (All, Either)):
        for part in where.parts:
            yield from _conditions(part)


def _describe_texts(manifest: Manifest, condition: Compare) -> str:
    needed = [condition.value] if condition.op == "eq" else list(condition.value) if condition.op == "in" else []
    path = f'$."{condition.field}"'
    if not needed or manifest.rows(_ANY, (path, json.dumps(needed))):
        return ""
    values = [value for (value,) in manifest.rows(_TEXTS, (path, _MAX_READ)) if value is not None]
    named = ", ".join(map(quote_name, values[:_MAX_NAMED])) or "none"
    more = ", ..." if len(values) > _MAX_NAMED else "."
    relative = " (relative to its source)" if condition.field == "path" else ""
    guess = _guess(condition.field, needed, values)
    return f"No document has this {condition.field!r}{relative}. {guess}Values: {named}{more}"


def _describe_kinds(manifest: Manifest, condition: Compare) -> str:
    values = [kind for (kind,) in manifest.rows(_KINDS)]
    needed = [condition.value] if condition.op == "eq" else list(condition.value) if condition.op == "in" else values
    if set(needed) & set(values):
        return ""
    return f"No passage has this 'kind'. {_guess('kind', needed, values)}Values: {', '.join(values)}."


def _guess(field: str, needed: Sequence[str], values: Sequence[str]) -> str:
    """Return a question for the nearest value: the type of a suffix, a relative path, or a slip of the keyboard."""
    first = str(needed[0])[:_LONGEST]
    known = [kind_of(f"x.{first.lower().lstrip('.')}")] if field == "type" else []
    same = [value for value in values if value in known or first.endswith(f"/{value}")]
    by_lower = {value.lower(): value for value in values if len(value) <= _LONGEST}
    close = same or [by_lower[name] for name in difflib.get_close_matches(first.lower(), by_lower, 1, 0.5)]
    return f"Did you mean {close[0]!r}? " if close else ""


def _describe_numbers(manifest: Manifest, condition: Compare) -> str:
    ((low, high),) = manifest.rows(_NUMBERS, (f'$."{condition.field}"',))
    if low is None:
        return f"No document has the field {condition.field!r}."
    return "" if _may_match(condition, low, high) else f"{condition.field!r} is from {low:g} to {high:g}."


def _may_match(condition: Compare, low: float, high: float) -> bool:
    """Return whether a number from ``low`` to ``high`` may meet a condition."""
    value: Any = condition.value
    if condition.op in ("gt", "gte"):
        return bool(high > value or (condition.op == "gte" and high == value))
    if condition.op in ("lt", "lte"):
        return bool(low < value or (condition.op == "lte" and low == value))
    return condition.op == "exists" or any(low <= one <= high for one in (value if condition.op == "in" else [value]))
