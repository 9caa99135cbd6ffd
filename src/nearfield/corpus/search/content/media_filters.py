"""Filters on the kind, times and sizes of chunks, in collections with features that read media.

Chunks of text have none of these fields, not even their kind. Tables of features that read text alone, which may be
older than the first feature of media, do not know the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nearfield.corpus.document import TEXT
from nearfield.corpus.extractors.media.kinds import MEDIA_FIELDS, MEDIA_KINDS
from nearfield.errors import InputError, nearest
from nearfield.stores.filters import All, Compare, Either, FieldType, Filter, Not, matches

_ALWAYS, _NEVER = All(()), Either(())
_KIND = "kind"


def with_text_kind(where: Filter) -> Filter:
    """Return a filter that takes chunks without a kind for text.

    Raises:
        InputError: it compares with a kind that there is not.
    """
    return _mapped(where, _text_kind)


def for_table(where: Filter | None, fields: Mapping[str, FieldType]) -> Filter | None:
    """Return a filter without the fields of media that a table lacks: none of its chunks has them."""
    if where is None or all(name in fields for name in MEDIA_FIELDS):
        return where
    return _mapped(where, lambda part: _NEVER if part.field in MEDIA_FIELDS and part.field not in fields else part)


def _text_kind(part: Compare) -> Filter:
    if part.field != _KIND:
        return part
    if part.op == "exists":
        return _ALWAYS
    _check_kinds(part)
    return Either((part, Not(Compare(_KIND, "exists", True)))) if matches(part, {_KIND: TEXT}) else part


def _check_kinds(part: Compare) -> None:
    kinds = part.values if part.op == "in" else {part.value} if part.op == "eq" else set()
    unknown = sorted(map(str, kinds - {TEXT, *MEDIA_KINDS}))
    if unknown:
        raise InputError(f"Unknown kind {unknown[0]!r}. {nearest(unknown[0], (TEXT, *MEDIA_KINDS))}", param="where")


def _mapped(where: Filter, change: Callable[[Compare], Filter]) -> Filter:
    """Return a filter with each of its conditions changed."""
    if isinstance(where, Compare):
        return change(where)
    if isinstance(where, Not):
        return Not(_mapped(where.part, change))
    return type(where)(tuple(_mapped(part, change) for part in where.parts))
