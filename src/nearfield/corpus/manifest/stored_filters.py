"""Filters in the form in which a store can apply them.

A store knows the first page of each chunk only, and has no near-duplicates. The manifest knows the others.
"""

from __future__ import annotations

from nearfield.corpus.manifest.keyword_index import PAGE, filter_to_sql
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.stores.filters import MAX_VALUES, All, Compare, Either, Filter, Not, one_of

#: The filter's condition is one on the table of chunks: the common table expression takes its place.
_DUPLICATED = """WITH chunks AS (SELECT kept_chunk, document, ordinal, json_extract(value, '$.id') AS id,
    json_extract(value, '$.version') AS version, json_extract(value, '$.fields') AS fields,
    json_extract(value, '$.payload') AS payload FROM duplicates)
    SELECT DISTINCT kept_chunk FROM chunks WHERE {condition} LIMIT {limit}"""
_SPANNING = """SELECT id, {condition} FROM chunks
    WHERE json_extract(payload, '$.last_page') IS NOT NULL AND {condition} <> {stored} LIMIT {limit}"""


def stored_filter(manifest: Manifest, where: Filter) -> Filter:
    """Return the filter for the store that finds all chunks that a filter matches, and those with such duplicates.

    At most 10,000 chunks of each kind are added to the filter or taken out of it.
    """
    added = _find_duplicated(manifest, where)
    if _has_field(where, PAGE):
        spanning = _find_spanning(manifest, where)
        added += [key for key, is_match in spanning if is_match]
        removed = [key for key, is_match in spanning if not is_match]
        where = All((where, Not(one_of("id", removed)))) if removed else where
    return Either((where, one_of("id", added))) if added else where


def _find_duplicated(manifest: Manifest, where: Filter) -> list[str]:
    """Return the ids of the chunks with near-duplicates in documents that a filter matches."""
    condition, values = filter_to_sql(where)
    sql = _DUPLICATED.format(condition=condition, limit=MAX_VALUES)
    return [key for (key,) in manifest.read(sql, values)]


def _find_spanning(manifest: Manifest, where: Filter) -> list[tuple[str, bool]]:
    """Return the ids of the chunks on several pages for which the first one decides wrongly, and whether they match."""
    condition, values = filter_to_sql(where)
    stored, stored_values = filter_to_sql(where, first_page=True)
    sql = _SPANNING.format(condition=condition, stored=stored, limit=MAX_VALUES)
    return [(key, bool(is_match)) for key, is_match in manifest.read(sql, [*values, *values, *stored_values])]


def _has_field(where: Filter, name: str) -> bool:
    if isinstance(where, Compare):
        return where.field == name
    return any(_has_field(part, name) for part in ((where.part,) if isinstance(where, Not) else where.parts))
