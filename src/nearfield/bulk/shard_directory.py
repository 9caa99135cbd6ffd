"""A folder of shards on disk: the schema that all shards share, a record of each shard, locks, and a manifest.

The state lies in the subfolder ``_shards/`` (readers of data sets skip names that begin with an underscore):
``terms.json`` holds the schema, what all vectors have in common, and ``00007.json`` is the record of shard 7: that it
is complete, and what it holds. A record is removed before the files of its shard are replaced, and written after they
are on the disk, so that a record is never wrong, whenever a run is killed. ``plan.json`` says where shards begin in the
inputs, which saves later runs reading them. ``_manifest.json`` sums up the records, at the start and at the end of a
run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nearfield.bulk.file_job import output_lock
from nearfield.bulk.shard_plan import Shard, ShardPlan
from nearfield.bulk.shard_writer import SHARD_FORMATS, FileDigest, PendingShard, digest_of_file, shard_file_names
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
from nearfield.errors import InputError
from nearfield.fileio.atomic import fsync_directory, write_atomic
from nearfield.fileio.locks import exclusive_lock, waiting_lock

_SHARD = re.compile(r"part-(\d{5,})\.(?:parquet|npy|jsonl)")
_RECORD = re.compile(r"(\d{5,})\.json")
_DRAFTS = "drafts-"
#: Seconds for which a process waits while another one renames the files of a shard.
_PLACING_SECONDS = 30


class ShardDirectory:
    """A folder of shards."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.manifest = home / "_manifest.json"
        self.set_aside = home / "_set_aside.jsonl"
        self._state = home / "_shards"
        self._schema = self._state / "terms.json"
        self._plan = self._state / "plan.json"

    generation = ""

    def join(self) -> None:
        """Do nothing: the first file that is written shows whether this machine sees the folder."""

    # -- schema ------------------------------------------------------------------------------------------------

    def schema(self) -> JsonObject | None:
        """Return what all shards have in common; None if no run has written here yet.

        Raises:
            InputError: there are shards without a schema.
        """
        schema = _read_json(self._schema)
        if schema is None and self._numbers(self.home, _SHARD):
            raise unknown_shards(self.home)
        return schema

    def check(self, schema: Mapping[str, object]) -> None:
        """Raise InputError if the shards of the folder have another schema: vectors must not be mixed."""
        check_schema(self.home, self.schema(), schema)

    def set_schema(self, schema: Mapping[str, object], notes: Mapping[str, object]) -> None:
        """Store the schema, with ``notes`` that are not compared, or check that the stored one is the same.

        Raises:
            InputError: it is another one.
        """
        with self._state_lock():
            if self.schema() is None:
                _write_json(self._schema, {**notes, **schema})
        self.check(schema)

    # -- plan --------------------------------------------------------------------------------------------------

    def plan(self, key: str) -> ShardPlan | None:
        """Return the plan that was stored for the same inputs; None if there is none that can be read."""
        values = _read_json(self._plan) or {}
        try:
            return ShardPlan.from_dict(values) if values.get("key") == key else None
        except (KeyError, TypeError, ValueError):  # the disk lost a part of it
            return None

    def write_plan(self, key: str, plan: ShardPlan) -> None:
        """Store a plan. ``key`` is what it belongs to."""
        with self._state_lock():
            write_atomic(self._plan, json.dumps({"key": key, **plan.to_dict()}), durable=True)

    # -- locks -------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Be one of the runs that write to this folder, so that no other run clears it during the block."""
        self._state.mkdir(parents=True, exist_ok=True)
        with waiting_lock(self._state / "run.lock", shared=True):
            yield

    def clear(self) -> None:
        """Remove all shards, their records and the schema.

        Raises:
            InputError: another run writes here.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._state / "run.lock", self._busy, required=False):
            self.manifest.unlink(missing_ok=True)
            self.set_aside.unlink(missing_ok=True)
            self._remove(self._state, _RECORD)
            self._remove(self.home, _SHARD)
            self._schema.unlink(missing_ok=True)
            self._plan.unlink(missing_ok=True)

    def _busy(self) -> InputError:
        return InputError(f"{self.home} is being written by another run: end it before --restart.")

    def arrange(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """Return the shards: locks show which ones other runs are encoding."""
        return shards

    @contextmanager
    def try_lock_shard(self, number: int) -> Iterator[bool]:
        """Yield whether this run has the lock of a shard until the end of the block; if not, another run writes it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(output_lock(self._state / f"{number:05d}"))
                locked = True
            except InputError:
                locked = False
            yield locked

    def _state_lock(self) -> AbstractContextManager[None]:
        return waiting_lock(self._state / "state.lock")

    # -- records -----------------------------------------------------------------------------------------------

    def has_shard(self, shard: Shard, form: str, *, thorough: bool = False) -> bool:
        """Return whether a shard exists as planned; ``thorough`` compares digests of its files, not only sizes."""
        return self._valid_record(shard, form, thorough=thorough) is not None

    def _valid_record(self, shard: Shard, form: str, *, thorough: bool = False) -> JsonObject | None:
        """Return the record of a shard that exists as planned; None if it does not."""
        record = self._record(shard.number)
        if record is None or not _is_planned(record, shard):
            return None
        files: dict[str, FileDigest] = record["files"]
        is_valid = sorted(files) == sorted(shard_file_names(form, shard.number)) and all(
            _is_intact(self.home / name, digest, thorough) for name, digest in files.items()
        )
        return record if is_valid else None

    def has_record(self, shard: Shard) -> bool:
        """Return whether the record of a shard says that it exists as planned."""
        return _is_planned(self._record(shard.number) or {}, shard)

    def has_set_aside(self, shard: Shard) -> bool:
        """Return whether rows of a shard were set aside."""
        return SET_ASIDE in (self._record(shard.number) or {})

    def temporary_paths(self, number: int, form: str) -> list[Path]:
        """Return where the files of a shard are written until they are complete."""
        return [self._state / f"{name}.partial" for name in shard_file_names(form, number)]

    def place(self, shard: Shard, form: str, pending: PendingShard, counts: Mapping[str, object]) -> bool:
        """Move the complete files of a shard to their place and write its record; return that this was done."""
        record = self._record_path(shard.number)
        record.unlink(missing_ok=True)
        fsync_directory(self._state)
        names = shard_file_names(form, shard.number)
        for temporary, name in zip(pending.paths, names, strict=True):
            temporary.replace(self.home / name)
        fsync_directory(self.home)
        files = dict(zip(names, pending.digests, strict=True))
        _write_json(record, {**planned_fields(shard), **counts, "files": files})
        return True

    def place_once(self, shard: Shard, form: str, pending: PendingShard, counts: Mapping[str, object]) -> bool:
        """Place a shard unless another process has placed the same one, and return whether this one did.

        Raises:
            InputError: another run writes the shard and does not finish it within the time that placing takes.
        """
        for _ in range(_PLACING_SECONDS * 10):
            with self.try_lock_shard(shard.number) as locked:
                if locked:
                    exists = self.has_shard(shard, form)
                    if not exists:
                        self.place(shard, form, pending, counts)
                    return not exists
            time.sleep(0.1)
        raise InputError(f"{self.home}: another run is writing shard {shard.number}.", param="output")

    # -- drafts of runs on several machines ----------------------------------------------------------------------

    def drafts(self, run: str) -> Path:
        """Return the folder of a run's unfinished files. Processes that outlive the run cannot write there."""
        return self._state / f"{_DRAFTS}{run}"

    def remove_drafts(self, run: str) -> None:
        """Remove the unfinished files of a run."""
        shutil.rmtree(self.drafts(run), ignore_errors=True)

    def remove_abandoned_drafts(self) -> None:
        """Remove the unfinished files that killed runs left; where other runs write, nothing is removed."""
        drafts = list(self._state.glob(f"{_DRAFTS}*"))
        if not drafts:
            return
        with suppress(InputError), exclusive_lock(self._state / "run.lock", self._busy, required=False):
            for path in drafts:
                shutil.rmtree(path, ignore_errors=True)

    def remove_shard(self, number: int) -> None:
        """Remove a shard, its record first."""
        self._record_path(number).unlink(missing_ok=True)
        for form in SHARD_FORMATS:
            for name in shard_file_names(form, number):
                (self.home / name).unlink(missing_ok=True)

    def surplus(self, count: int) -> list[int]:
        """Return the numbers of the shards that exist although the plan has only ``count``."""
        numbers = self._numbers(self.home, _SHARD) | self._numbers(self._state, _RECORD)
        return sorted(number for number in numbers if number >= count)

    def _record_path(self, number: int) -> Path:
        return self._state / f"{number:05d}.json"

    def _record(self, number: int) -> JsonObject | None:
        return _read_json(self._record_path(number))

    def _numbers(self, folder: Path, pattern: re.Pattern[str]) -> set[int]:
        if not folder.is_dir():
            return set()
        return {int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}

    def _remove(self, folder: Path, pattern: re.Pattern[str]) -> None:
        for path in [path for path in folder.iterdir() if pattern.fullmatch(path.name)]:
            path.unlink()

    # -- manifest ----------------------------------------------------------------------------------------------

    def write_manifest(self, plan: ShardPlan, form: str) -> JsonObject:
        """Write and return the manifest: schema, sums, records; ``complete`` once all shards exist as planned."""
        with self._state_lock():
            records = self._list_records(plan, form)
            complete = len(records) == len(plan.shards) and not self.surplus(len(plan.shards))
            manifest = manifest_of(plan, records, self.schema() or {}, complete=complete)
            write_atomic(self.manifest, manifest_text(manifest), durable=True)
        return manifest

    def _list_records(self, plan: ShardPlan, form: str) -> list[JsonObject]:
        """Return the records of shards that exist as planned, and write the rows that they set aside to a file.

        These rows are in one record at a time in memory.
        """
        records: list[JsonObject] = []
        draft = self._state / "set_aside.partial"
        with ExitStack() as stack:
            file: TextIO | None = None
            for record in filter(None, (self._valid_record(shard, form) for shard in plan.shards)):
                if rows := record.pop(SET_ASIDE_ROWS, ()):
                    file = file or stack.enter_context(draft.open("w", encoding="utf-8"))
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                records.append(record)
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
                draft.replace(self.set_aside)
        if file is None and self.set_aside.exists():
            self.set_aside.unlink()
        return records


def _is_planned(record: JsonObject, shard: Shard) -> bool:
    return all(record.get(name) == value for name, value in planned_fields(shard).items())


def _is_intact(path: Path, digest: FileDigest, thorough: bool) -> bool:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size != digest["bytes"]:
        return False
    return not thorough or digest_of_file(path) == digest["digest"]


def _read_json(path: Path) -> JsonObject | None:
    """Return the object in a file; None if there is no file, or if the disk lost what it had confirmed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    write_atomic(path, json.dumps(value, indent=1), durable=True)
