"""What the records and the manifest of a folder of shards hold, wherever the folder is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nearfield.bulk.report import TOKEN_COUNTS
from nearfield.bulk.shard_plan import Shard, ShardPlan
from nearfield.errors import InputError
from nearfield.fileio.s3.path import Location

#: Fields of a record: how many rows were set aside, and which.
SET_ASIDE, SET_ASIDE_ROWS = "set_aside", "set_aside_rows"
_SUMS = ("rows", "tokens", *TOKEN_COUNTS)
#: Counts that only some records have: of multi-vectors, and of data sets whose rows may be unreadable.
_RARE_SUMS = ("vectors", SET_ASIDE)

#: The content of a JSON file.
JsonObject: TypeAlias = dict[str, Any]


def planned_fields(shard: Shard) -> JsonObject:
    """Return the fields of a record that say which rows the shard holds."""
    return {"number": shard.number, "start": shard.start, "rows": shard.rows, "content": shard.content}


def set_aside_fields(rows: Sequence[JsonObject]) -> JsonObject:
    """Return the fields of a record for rows that cannot be read; none without such rows."""
    return {SET_ASIDE: len(rows), SET_ASIDE_ROWS: list(rows)} if rows else {}


def manifest_of(
    plan: ShardPlan, records: Sequence[JsonObject], schema: Mapping[str, object], *, complete: bool
) -> JsonObject:
    """Return the manifest of the shards with these records."""
    return {
        "state": "complete" if complete else "partial",
        "terms": {name: value for name, value in schema.items() if name != "schema"},
        # Records of version 0.1 count less.
        **{name: sum(record.get(name, 0) for record in records) for name in _sums(records)},
        "planned_rows": plan.rows,
        "planned_shards": len(plan.shards),
        "shards": list(records),
    }


def _sums(records: Sequence[JsonObject]) -> tuple[str, ...]:
    """Return the counts that a manifest sums up."""
    return (*_SUMS, *(name for name in _RARE_SUMS if any(name in record for record in records)))


def manifest_text(manifest: JsonObject) -> str:
    """Return a manifest as JSON, with each record on a line: Python indents a hundred thousand of them slowly."""
    head = json.dumps({**manifest, "shards": []}, indent=1).removesuffix("[]\n}")
    lines = ",\n".join(f"  {json.dumps(record)}" for record in manifest["shards"])
    return f"{head}[\n{lines}\n ]\n}}"


def unknown_shards(home: Location) -> InputError:
    """Return the error for a folder that has shards and no schema."""
    return InputError(
        f"{home} holds shards (part-...) of which nothing is known. Write to another folder, or replace them with "
        "--restart.",
        param="output",
    )


def check_schema(home: Location, known: Mapping[str, object] | None, schema: Mapping[str, object]) -> None:
    """Raise InputError if the shards of a folder have another schema: vectors must not be mixed."""
    if known is None:
        return
    differences = [
        f"{name.replace('_', ' ')} {known.get(name)!r} there, {value!r} here"
        for name, value in schema.items()
        if known.get(name) != value
    ]
    if differences:
        raise InputError(
            f"{home} holds {known['model']} vectors that do not go with these: {'; '.join(differences)}. "
            "Write to another folder, or replace its shards with --restart.",
            param="output",
        )
