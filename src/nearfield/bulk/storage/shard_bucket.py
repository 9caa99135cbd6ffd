"""A folder of shards on S3-compatible storage, where nothing is locked or renamed.

Objects have the names of the files of ``ShardDirectory``, except that those of a shard carry their digest:
``part-00007.<digest>.parquet``. So no object is ever replaced by another content. A shard exists once its record does.
The record is written with a condition: only if there is none (``If-None-Match: *``) or, to replace one, only if it is
still the one that was read (``If-Match``). Of two runs that write the same shard, the later one removes its files. So
that this is rare, each run begins at a random shard, and looks for the record of each before it encodes it.
Readers follow the records or the manifest, not a listing: files of killed runs are removed when another run has written
the record of their shard.

``terms.json`` and each record hold the number of their generation, which ``--restart`` changes: a record that another
run writes after that counts as none.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.shard_plan import Shard, ShardPlan
from nearfield.bulk.shard_writer import FileDigest, PendingShard, shard_file_names
from nearfield.bulk.storage.local_drafts import LocalDrafts, remove_abandoned
from nearfield.bulk.storage.records import (
    SET_ASIDE,
    SET_ASIDE_ROWS,
    JsonObject,
    check_schema,
    manifest_of,
    manifest_text,
    planned_fields,
    unknown_shards,
)
from nearfield.errors import InputError, StorageFailed
from nearfield.fileio.s3.path import S3Path

_SHARD = re.compile(r"part-(\d{5,})\.(?:[0-9a-f]+\.)?(?:parquet|npy|jsonl)")
_RECORD = re.compile(r"_shards/(\d{5,})\.json")
_SCHEMA = "_shards/terms.json"
_PLAN = "_shards/plan.json"
_MANIFEST = "_manifest.json"
_SET_ASIDE = "_set_aside.jsonl"
_GENERATION = "generation"
#: A field of records that distinguishes equal records of two runs: which of them was written must be known.
_WRITER = "writer"
_THREADS = 16
_BYTES_PER_READ = 1 << 20
#: Attempts to write the manifest while other runs write it.
_MANIFEST_ATTEMPTS = 20


class ShardBucket:
    """A folder of shards in a bucket.

    The objects are listed by ``schema`` and ``write_manifest``, and of one shard by ``try_lock_shard``.
    """

    def __init__(self, home: S3Path, generation: str = "") -> None:
        self.home = home
        self.generation = generation
        self._client = home.client
        self._drafts: LocalDrafts | None = None
        #: Sizes and tags of all objects, by their names below the folder.
        self._sizes: dict[str, int] = {}
        #: The tag and the content of each record, without the rows that were set aside: there may be many.
        self._records: dict[int, tuple[str, JsonObject]] = {}

    def _key(self, name: str) -> str:
        return self.home.child(name).key

    # -- objects -----------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """List the objects, records before the files that they name, and read the records that have changed.

        Lists may lag behind: records that are known and not listed are looked up by their names.
        """
        skipped = len(self._key(""))
        items = {item.key[skipped:]: item for item in self._client.list(self.home.key)}
        self._sizes = {name: item.size for name, item in items.items()}
        tags = {int(match[1]): items[name].etag for name in items if (match := _RECORD.fullmatch(name))}
        same = {number: record for number, record in self._records.items() if tags.get(number) == record[0]}
        unlisted = [number for number in self._records if number not in tags]
        with ThreadPoolExecutor(_THREADS) as pool:
            changed = [number for number in tags if number not in same] + unlisted
            fresh = dict(zip(changed, pool.map(self._read_record, changed), strict=True))
            self._records = same | {number: record for number, record in fresh.items() if record is not None}
            list(pool.map(self._find_files, [number for number in unlisted if number in self._records]))

    def _read_record(self, number: int) -> tuple[str, JsonObject] | None:
        content = self._client.get(self._key(_record_name(number)))
        if content is None:
            return None
        record = _parse(content.data) or {}
        record.pop(SET_ASIDE_ROWS, None)
        return content.etag, record

    def _refresh(self, number: int) -> None:
        """Read the record of a shard again, and the sizes of its files."""
        record = self._read_record(number)
        self._records.pop(number, None)
        if record is not None:
            self._records[number] = record
            self._find_files(number)

    def _find_files(self, number: int) -> None:
        """Look up the sizes of the files that the record of a shard names."""
        for name in self._records[number][1].get("files", {}):
            item = self._client.find(self._key(name))
            self._sizes.pop(name, None)
            self._sizes |= {} if item is None else {name: item.size}

    # -- schema and plan ---------------------------------------------------------------------------------------

    def schema(self) -> JsonObject | None:
        """Return what all shards have in common; None if no run has written here yet.

        Raises:
            InputError: there are shards without a schema.
        """
        content = self._client.get(self._key(_SCHEMA))
        self._scan()
        schema = None if content is None else _parse(content.data)
        if schema is None and any(map(_SHARD.fullmatch, self._sizes)):
            raise unknown_shards(self.home)
        self.generation = "" if schema is None else schema[_GENERATION]
        return schema

    def check(self, schema: Mapping[str, object]) -> None:
        """Raise InputError if the shards of the folder have another schema: vectors must not be mixed."""
        check_schema(self.home, self.schema(), schema)

    def set_schema(self, schema: Mapping[str, object], notes: Mapping[str, object]) -> None:
        """Store the schema, with ``notes`` that are not compared, or check that the stored one is the same.

        Raises:
            InputError: it is another one.
        """
        if self.schema() is None:
            content = {**notes, **schema, _GENERATION: secrets.token_hex(8)}
            self._client.create(self._key(_SCHEMA), _to_bytes(content))  # or another run does so just now
        self.check(schema)

    def plan(self, key: str) -> ShardPlan | None:
        """Return the plan that was stored for the same inputs; None if there is none that can be read."""
        content = self._client.get(self._key(_PLAN))
        values = (content and _parse(content.data)) or {}
        try:
            return ShardPlan.from_dict(values) if values.get("key") == key else None
        except (KeyError, TypeError, ValueError):
            return None

    def write_plan(self, key: str, plan: ShardPlan) -> None:
        """Store a plan. ``key`` is what it belongs to."""
        self._client.put(self._key(_PLAN), json.dumps({"key": key, **plan.to_dict()}).encode())

    # -- runs --------------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Write a small object with a condition, and delete it.

        Raises:
            InputError: there is no such bucket, it denies reading or writing, or its storage ignores conditions.
        """
        next(self._client.list(self.home.key), None)
        key = self._key(f"_shards/probe-{secrets.token_hex(8)}")
        try:
            written = self._client.create(key, b"1")
            replaced = self._client.create(key, b"2") or self._client.replace(key, b"2", '"another"')
        finally:
            self._client.delete([key])
        if not written or replaced:
            raise InputError(
                f"{self.home}: this storage ignores the conditions of writes (If-None-Match, If-Match), so that runs "
                "could replace each other's shards. Write to a local folder, and copy it.",
                param="output",
            )

    def join(self) -> None:
        """Check that this process sees the storage of the run whose generation it has, and may write there.

        Raises:
            InputError: it sees another folder, or may not write; see ``probe``.
        """
        content = self._client.get(self._key(_SCHEMA))
        schema = (content and _parse(content.data)) or {}
        if schema.get(_GENERATION) != self.generation:
            raise InputError(
                f"{self.home} is not the folder of this run: set AWS_ENDPOINT_URL and the access keys as on the "
                "machine of the command. If another run has restarted the folder, repeat the command.",
                param="output",
            )
        self.probe()

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Write to this folder during the block; at its end, the unfinished files on this machine are removed."""
        self._drafts = LocalDrafts()
        try:
            yield
        finally:
            self._drafts.remove()
            self._drafts = None

    def remove_abandoned_drafts(self) -> None:
        """Remove the unfinished files that killed runs left on this machine."""
        remove_abandoned()

    def clear(self) -> None:
        """Remove all shards, their records and the schema. What other runs write after that counts as nothing."""
        self._scan()
        states = [_MANIFEST, _SET_ASIDE, *(name for name in self._sizes if _RECORD.fullmatch(name))]
        shards = [name for name in self._sizes if _SHARD.fullmatch(name)]
        for names in (states, shards, [_SCHEMA, _PLAN]):
            self._delete(names)
        self._records.clear()

    def _delete(self, names: Sequence[str]) -> None:
        self._client.delete(self._key(name) for name in names)
        for name in names:
            self._sizes.pop(name, None)

    def arrange(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """Return the shards from a random one on: nothing is locked, and runs at once should be at different shards."""
        start = secrets.randbelow(len(shards)) if shards else 0
        return [*shards[start:], *shards[:start]]

    @contextmanager
    def try_lock_shard(self, number: int) -> Iterator[bool]:
        """Look again whether another run has written a shard, and yield True: nothing is locked here."""
        self._refresh(number)
        yield True

    # -- shards ------------------------------------------------------------------------------------------------

    def has_shard(self, shard: Shard, form: str, *, thorough: bool = False) -> bool:
        """Return whether a shard exists as planned; ``thorough`` compares digests of its files, not only sizes."""
        if not self.has_record(shard):
            return False
        files: dict[str, FileDigest] = self._records[shard.number][1]["files"]
        expected = {_object_name(name, digest["digest"]) for name, digest in _by_suffix(form, shard.number, files)}
        is_whole = len(expected) == len(shard_file_names(form, shard.number))
        return (
            is_whole
            and set(files) == expected
            and all(
                self._sizes.get(name) == digest["bytes"] and (not thorough or self._digest(name) == digest["digest"])
                for name, digest in files.items()
            )
        )

    def has_record(self, shard: Shard) -> bool:
        """Return whether the record of a shard says that it exists as planned."""
        _, record = self._records.get(shard.number, ("", {}))
        planned = {**planned_fields(shard), _GENERATION: self.generation}
        return bool(record) and all(record.get(name) == value for name, value in planned.items())

    def has_set_aside(self, shard: Shard) -> bool:
        """Return whether rows of a shard were set aside."""
        return SET_ASIDE in self._records.get(shard.number, ("", {}))[1]

    def _digest(self, name: str) -> str:
        digest = blake2b(digest_size=16)
        with self.home.child(name).open() as file:
            while block := file.read(_BYTES_PER_READ):
                digest.update(block)
        return digest.hexdigest()

    def temporary_paths(self, number: int, form: str) -> list[Path]:
        """Return where the files of a shard are written, on this machine, until they are complete."""
        if self._drafts is None:
            raise RuntimeError("Shards are written within writer().")
        return [self._drafts.folder / name for name in shard_file_names(form, number)]

    def place(self, shard: Shard, form: str, pending: PendingShard, counts: Mapping[str, object]) -> bool:
        """Upload the complete files of a shard and write its record; return False if another run was faster."""
        before = self._records.get(shard.number)
        names = [
            _object_name(name, digest["digest"])
            for name, digest in zip(shard_file_names(form, shard.number), pending.digests, strict=True)
        ]
        for name, path in zip(names, pending.paths, strict=True):
            self._client.put_file(self._key(name), path)
        files = dict(zip(names, pending.digests, strict=True))
        record = {**planned_fields(shard), **counts, "files": files}
        record |= {_GENERATION: self.generation, _WRITER: secrets.token_hex(8)}
        key, data = self._key(_record_name(shard.number)), _to_bytes(record)
        is_placed = self._client.replace(key, data, before[0]) if before else self._client.create(key, data)
        self._refresh(shard.number)
        if not is_placed:
            self._remove_unnamed(shard.number, names)
            return False
        self._restore(zip(names, pending.paths, strict=True))
        self._remove_unnamed(shard.number, list(before[1].get("files", {})) if before else [])
        return True

    place_once = place

    def _restore(self, files: Iterator[tuple[str, Path]]) -> None:
        """Upload files again that another run removed before it could see their record."""
        for name, path in files:
            if self._client.find(self._key(name)) is None:
                self._client.put_file(self._key(name), path)

    def _remove_unnamed(self, number: int, names: Sequence[str]) -> None:
        """Remove those files of a shard that its record, which there is, does not name."""
        if number in self._records:
            used = self._records[number][1].get("files", {})
            self._delete([name for name in names if name not in used])

    def remove_shard(self, number: int) -> None:
        """Remove a shard, its record first."""
        self._delete([_record_name(number)])
        self._records.pop(number, None)
        self._delete(self._files_of(number))

    def _files_of(self, number: int) -> list[str]:
        return [name for name in self._sizes if (match := _SHARD.fullmatch(name)) and int(match[1]) == number]

    def surplus(self, count: int) -> list[int]:
        """Return the numbers of the shards that exist although the plan has only ``count``."""
        matches = [_SHARD.fullmatch(name) or _RECORD.fullmatch(name) for name in self._sizes]
        return sorted({number for match in matches if match and (number := int(match[1])) >= count})

    # -- manifest ----------------------------------------------------------------------------------------------

    def write_manifest(self, plan: ShardPlan, form: str) -> JsonObject:
        """Write and return the manifest: schema, sums, records; ``complete`` once all shards exist as planned.

        The list of rows that were set aside is written before it: of several runs, the one that writes the last
        manifest has written the last list. Files of shards that exist, but not in these files, are removed.
        """
        key = self._key(_MANIFEST)
        for _ in range(_MANIFEST_ATTEMPTS):
            before = self._client.get(key)
            schema = self.schema() or {}
            existing = [shard for shard in plan.shards if self.has_shard(shard, form)]
            complete = len(existing) == len(plan.shards) and not self.surplus(len(plan.shards))
            records = [_public(self._records[shard.number][1]) for shard in existing]
            manifest = manifest_of(plan, records, _public(schema), complete=complete)
            self._write_set_aside([shard.number for shard in existing])
            data = manifest_text(manifest).encode()
            if self._client.replace(key, data, before.etag) if before else self._client.create(key, data):
                self._remove_orphans(existing)
                return manifest
        raise StorageFailed(f"{self.home}: other runs write {_MANIFEST} all the time. Repeat the command.")

    def _write_set_aside(self, numbers: Sequence[int]) -> None:
        """Write the rows that shards set aside to an object, those of some shards in memory; without any, remove it."""
        numbers = [number for number in numbers if SET_ASIDE in self._records[number][1]]
        if not numbers:
            self._delete([_SET_ASIDE] if _SET_ASIDE in self._sizes else [])
            return
        drafts = LocalDrafts()
        try:
            path = drafts.folder / _SET_ASIDE
            with path.open("w", encoding="utf-8") as file:
                for rows in read_ahead(self._set_aside_rows, numbers, _THREADS):
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            self._client.put_file(self._key(_SET_ASIDE), path)
        finally:
            drafts.remove()

    def _set_aside_rows(self, number: int) -> list[JsonObject]:
        content = self._client.get(self._key(_record_name(number)))
        rows: list[JsonObject] = ((content and _parse(content.data)) or {}).get(SET_ASIDE_ROWS, [])
        return rows

    def _remove_orphans(self, existing: Sequence[Shard]) -> None:
        """Remove files of killed runs: of shards that exist, and not named by their records."""
        numbers = {shard.number for shard in existing}
        used = {name for number in numbers for name in self._records[number][1]["files"]}
        matches = [match for name in self._sizes if (match := _SHARD.fullmatch(name))]
        self._delete([match[0] for match in matches if int(match[1]) in numbers and match[0] not in used])


def _record_name(number: int) -> str:
    return f"_shards/{number:05d}.json"


def _object_name(name: str, digest: str) -> str:
    """Return the name of the object for a file: ``part-00007.parquet`` becomes ``part-00007.<digest>.parquet``."""
    stem, suffix = name.split(".")
    return f"{stem}.{digest}.{suffix}"


def _by_suffix(form: str, number: int, files: Mapping[str, FileDigest]) -> Iterator[tuple[str, FileDigest]]:
    """Yield the names of a shard's files with the digests that its record has for them."""
    digests = {name.rpartition(".")[2]: digest for name, digest in files.items()}
    for name in shard_file_names(form, number):
        if (suffix := name.rpartition(".")[2]) in digests:
            yield name, digests[suffix]


def _public(values: Mapping[str, object]) -> JsonObject:
    return {name: value for name, value in values.items() if name not in (_GENERATION, _WRITER)}


def _to_bytes(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=1).encode()


def _parse(data: bytes) -> JsonObject | None:
    """Return an object of JSON, or None."""
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
