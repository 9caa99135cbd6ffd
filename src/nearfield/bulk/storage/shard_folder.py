"""What a run needs of a folder of shards, on a disk or on S3-compatible storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nearfield.bulk.shard_directory import ShardDirectory
from nearfield.bulk.shard_plan import Shard, ShardPlan
from nearfield.bulk.shard_writer import PendingShard
from nearfield.bulk.storage.records import JsonObject
from nearfield.bulk.storage.shard_bucket import ShardBucket
from nearfield.fileio.s3.path import Location, S3Path


class ShardFolder(Protocol):
    """A folder of shards; see ``ShardDirectory``."""

    @property
    def generation(self) -> str:
        """What a restart changes, once the schema was read or set; empty on a disk, where locks exclude restarts."""

    def join(self) -> None:
        """Check, in another process of a run, that this is the folder of the run, and that it can be written."""

    def schema(self) -> JsonObject | None:
        """Return what all shards have in common; None if no run has written here yet."""

    def check(self, schema: Mapping[str, object]) -> None:
        """Raise InputError if the shards have another schema."""

    def set_schema(self, schema: Mapping[str, object], notes: Mapping[str, object]) -> None:
        """Store the schema, with ``notes`` that are not compared, or check that the stored one is the same."""

    def plan(self, key: str) -> ShardPlan | None:
        """Return the plan that was stored for the same inputs; None if there is none."""

    def write_plan(self, key: str, plan: ShardPlan) -> None:
        """Store a plan."""

    def writer(self) -> AbstractContextManager[None]:
        """Be one of the runs that write to this folder."""

    def clear(self) -> None:
        """Remove all shards, their records and the schema."""

    def remove_abandoned_drafts(self) -> None:
        """Remove the unfinished files that killed runs left."""

    def arrange(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """Return shards in the order in which a run should encode them."""

    def try_lock_shard(self, number: int) -> AbstractContextManager[bool]:
        """Yield whether this run may write a shard now."""

    def has_shard(self, shard: Shard, form: str, *, thorough: bool = False) -> bool:
        """Return whether a shard exists as planned; ``thorough`` compares digests of its files."""

    def has_record(self, shard: Shard) -> bool:
        """Return whether the record of a shard says that it exists as planned."""

    def has_set_aside(self, shard: Shard) -> bool:
        """Return whether rows of a shard were set aside."""

    def temporary_paths(self, number: int, form: str) -> list[Path]:
        """Return where the files of a shard are written until they are complete."""

    def place(self, shard: Shard, form: str, pending: PendingShard, counts: Mapping[str, object]) -> bool:
        """Put the complete files of a shard to their place and write its record; return False if another run did."""

    def place_once(self, shard: Shard, form: str, pending: PendingShard, counts: Mapping[str, object]) -> bool:
        """Do what ``place`` does without the lock of the shard."""

    def remove_shard(self, number: int) -> None:
        """Remove a shard, its record first."""

    def surplus(self, count: int) -> list[int]:
        """Return the numbers of the shards that exist although the plan has only ``count``."""

    def write_manifest(self, plan: ShardPlan, form: str) -> JsonObject:
        """Write and return the manifest."""


def open_folder(home: Location, generation: str = "") -> ShardFolder:
    """Return the folder of shards at a place; ``generation`` is that of the run that this process is part of."""
    return ShardBucket(home, generation) if isinstance(home, S3Path) else ShardDirectory(home)
