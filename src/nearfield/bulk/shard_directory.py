"""A folder of shards, and what is known of it: terms that all shards share, a record of each, locks, a manifest.

Beside the shards lies ``_shards/`` (readers of data sets pass by names that begin with an underscore). ``terms.json``
says what all vectors have in common; ``00007.json`` that shard 7 is whole, and what it holds. A shard's record is
removed before its files are replaced and written after they are on the disk, so that a record is never wrong,
whenever a run is killed. ``_manifest.json`` sums the records up when a run begins and when it ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nearfield.bulk.file_job import output_lock
from nearfield.bulk.shard_plan import Plan, Shard
from nearfield.bulk.shard_writer import FORMS, digest_of, names
from nearfield.errors import InputError
from nearfield.fileio.atomic import fsync_directory, write_atomic
from nearfield.fileio.locks import exclusive_lock, waiting_lock

_SHARD = re.compile(r"part-(\d{5,})\.(?:parquet|npy|jsonl)")
_RECORD = re.compile(r"(\d{5,})\.json")
_SUMS = ("rows", "tokens", "truncated_texts", "truncated_tokens")


class ShardDirectory:
    """A folder of shards."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.manifest = home / "_manifest.json"
        self._inside = home / "_shards"
        self._terms = self._inside / "terms.json"

    # -- terms -------------------------------------------------------------------------------------------------

    def terms(self) -> dict[str, Any] | None:
        """Return what all shards have in common; None where no run has been yet.

        Raises:
            InputError: there are shards, and nothing says what they are.
        """
        found = _load(self._terms)
        if found is None and self._numbers(self.home, _SHARD):
            raise InputError(
                f"{self.home} holds shards (part-...) of which nothing is known. Write to another folder, or replace "
                "them with --restart.",
                param="output",
            )
        return found

    def check(self, terms: Mapping[str, Any]) -> None:
        """Refuse to mix vectors.

        Raises:
            InputError: the shards that are there were made on other terms.
        """
        known = self.terms()
        if known is None:
            return
        told = [_unlike(name, known.get(name), value) for name, value in terms.items() if known.get(name) != value]
        if told:
            raise InputError(
                f"{self.home} holds {known['model']} vectors that do not go with these: {'; '.join(told)}. Write to "
                "another folder, or begin anew with --restart, which removes what is there.",
                param="output",
            )

    def settle(self, terms: Mapping[str, Any], **about: Any) -> None:
        """Write the terms down, and what else is to be known of them, or see that those there are the same.

        Raises:
            InputError: they are not.
        """
        with self._state():
            if self.terms() is None:
                _write_json(self._terms, {**about, **terms})
        self.check(terms)

    # -- who writes --------------------------------------------------------------------------------------------

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be one of those who write to this folder: it is not cleared meanwhile."""
        self._inside.mkdir(parents=True, exist_ok=True)
        with waiting_lock(self._inside / "run.lock", shared=True):
            yield

    def clear(self) -> None:
        """Remove all shards, and all that is known of them.

        Raises:
            InputError: another run writes here.
        """
        self._inside.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._inside / "run.lock", self._busy, required=False):
            self.manifest.unlink(missing_ok=True)
            self._remove(self._inside, _RECORD)
            self._remove(self.home, _SHARD)
            self._terms.unlink(missing_ok=True)

    def _busy(self) -> InputError:
        return InputError(f"{self.home} is being written by another run: end it before --restart.")

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Yield whether a shard is ours alone until the end of the block; another run may be at it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(output_lock(self._inside / f"{number:05d}"))
                ours = True
            except InputError:
                ours = False
            yield ours

    def _state(self) -> AbstractContextManager[None]:
        return waiting_lock(self._inside / "state.lock")

    # -- records -----------------------------------------------------------------------------------------------

    def has(self, part: Shard, form: str, *, thorough: bool = False) -> bool:
        """Return whether a shard is there as planned; ``thorough`` reads its files, where else their sizes count."""
        record = self._record(part.number)
        if record is None or not self.promised(part):
            return False
        files: dict[str, Any] = record["files"]
        return sorted(files) == sorted(names(form, part.number)) and all(
            _whole(self.home / name, known, thorough) for name, known in files.items()
        )

    def promised(self, part: Shard) -> bool:
        """Return whether the record of a shard says that it is there as planned."""
        record = self._record(part.number) or {}
        return all(record.get(name) == value for name, value in _planned(part).items())

    def drafts(self, number: int, form: str) -> list[Path]:
        """Return where a shard's files are written until they are whole."""
        return [self._inside / f"{name}.partial" for name in names(form, number)]

    def place(self, part: Shard, form: str, settled: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> None:
        """Put a shard's files in place, and write its record."""
        (self._inside / f"{part.number:05d}.json").unlink(missing_ok=True)
        fsync_directory(self._inside)
        known = names(form, part.number)
        for draft, name in zip(self.drafts(part.number, form), known, strict=True):
            draft.replace(self.home / name)
        fsync_directory(self.home)
        files = dict(zip(known, settled, strict=True))
        _write_json(self._inside / f"{part.number:05d}.json", {**_planned(part), **counts, "files": files})

    def drop(self, number: int) -> None:
        """Remove a shard, its record first."""
        (self._inside / f"{number:05d}.json").unlink(missing_ok=True)
        for form in FORMS:
            for name in names(form, number):
                (self.home / name).unlink(missing_ok=True)

    def beyond(self, count: int) -> list[int]:
        """Return the numbers of shards that there are although there should be but ``count``."""
        found = self._numbers(self.home, _SHARD) | self._numbers(self._inside, _RECORD)
        return sorted(number for number in found if number >= count)

    def _record(self, number: int) -> dict[str, Any] | None:
        return _load(self._inside / f"{number:05d}.json")

    def _numbers(self, place: Path, kind: re.Pattern[str]) -> set[int]:
        if not place.is_dir():
            return set()
        return {int(match[1]) for path in place.iterdir() if (match := kind.fullmatch(path.name))}

    def _remove(self, place: Path, kind: re.Pattern[str]) -> None:
        for path in [path for path in place.iterdir() if kind.fullmatch(path.name)]:
            path.unlink()

    # -- manifest ----------------------------------------------------------------------------------------------

    def sum_up(self, plan: Plan, form: str) -> dict[str, Any]:
        """Write the manifest: terms, sums, a line for each shard; ``complete`` once all are there as planned."""
        with self._state():
            whole = [part for part in plan.parts if self.has(part, form)]
            records = [record for part in whole if (record := self._record(part.number)) is not None]
            complete = len(records) == len(plan.parts) and not self.beyond(len(plan.parts))
            told = {
                "state": "complete" if complete else "partial",
                "terms": {name: value for name, value in (self.terms() or {}).items() if name != "schema"},
                **{name: sum(record[name] for record in records) for name in _SUMS},
                "planned_rows": plan.rows,
                "planned_shards": len(plan.parts),
                "shards": records,
            }
            _write_json(self.manifest, told)
        return told


def _planned(part: Shard) -> dict[str, Any]:
    return {"number": part.number, "start": part.start, "rows": part.rows, "content": part.content}


def _unlike(name: str, known: Any, wanted: Any) -> str:
    return f"{name.replace('_', ' ')} {known!r} there, {wanted!r} here"


def _whole(path: Path, known: Mapping[str, Any], thorough: bool) -> bool:
    if not path.is_file() or path.stat().st_size != known["bytes"]:
        return False
    return not thorough or digest_of(path) == known["digest"]


def _load(path: Path) -> dict[str, Any] | None:
    """Return what a file says; None where there is none, or a disk has lost what it confirmed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value, indent=1), durable=True)
