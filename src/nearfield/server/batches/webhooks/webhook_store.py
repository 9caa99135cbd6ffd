"""Webhooks that are not delivered yet: records in the file store's database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import orjson

from nearfield.errors import TooManyBatches
from nearfield.server.files.file_store import FileStore, new_id

_SCHEMA = """
CREATE TABLE IF NOT EXISTS webhooks (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, owner TEXT NOT NULL, url TEXT NOT NULL,
  host TEXT NOT NULL, event TEXT NOT NULL, body BLOB NOT NULL, created_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
  next_at REAL NOT NULL)
"""
#: Webhooks of one owner that may wait.
MAX_WAITING = 1000
#: Seconds after which a client with too many of them may try again.
_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Webhook:
    """One message, and how often it was sent without success."""

    id: str
    owner: str
    url: str
    host: str
    #: Its type, such as ``batch.completed``, and the id of the batch.
    event: str
    body: bytes
    created_at: int
    attempts: int


class WebhookStore:
    """Stores webhooks. All methods wait for the disk: call them in threads."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def add(self, database: sqlite3.Connection, *, owner: str, url: str, host: str, kind: str, about: str) -> None:
        """Add a message in a transaction that records the event: both are stored, or neither.

        ``kind`` is the type of the event, ``about`` the id of its object.
        """
        now, name = int(self._files.clock()), new_id("evt_")
        body = {"id": name, "object": "event", "created_at": now, "type": kind, "data": {"id": about}}
        database.execute(_SCHEMA)
        database.execute(
            "INSERT INTO webhooks (id, owner, url, host, event, body, created_at, attempts, next_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (name, owner, url, host, f"{kind} of {about}", orjson.dumps(body), now, now),
        )

    def check_number(self, owner: str) -> None:
        """Check that an owner may add a webhook.

        Raises:
            TooManyBatches: too many of its webhooks wait.
        """
        if not self._files.used:
            return
        with self._files.records() as database:
            if not _exists(database):
                return
            (count,) = database.execute("SELECT COUNT(*) FROM webhooks WHERE owner = ?", (owner,)).fetchone()
        if count >= MAX_WAITING:
            raise TooManyBatches(
                f"{count} webhooks of your batches wait for their receivers, the maximum: leave out "
                "metadata.callback_url.",
                retry_after=_RETRY_SECONDS,
            )

    def waiting(self, now: float) -> tuple[list[Webhook], float | None]:
        """Return the webhooks that are due, and the time at which the next of the others is."""
        if not self._files.used:
            return [], None
        with self._files.records() as database:
            if not _exists(database):
                return [], None
            rows = database.execute("SELECT * FROM webhooks WHERE next_at <= ? ORDER BY next_at", (now,)).fetchall()
            (later,) = database.execute("SELECT MIN(next_at) FROM webhooks WHERE next_at > ?", (now,)).fetchone()
        return [_webhook(row) for row in rows], later

    def postpone(self, name: str, until: float) -> None:
        """Count an attempt without success, and set the time of the next one."""
        with self._files.records(write=True) as database:
            database.execute("UPDATE webhooks SET attempts = attempts + 1, next_at = ? WHERE id = ?", (until, name))

    def remove(self, name: str) -> None:
        """Remove a webhook."""
        with self._files.records(write=True) as database:
            database.execute("DELETE FROM webhooks WHERE id = ?", (name,))


def _exists(database: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'webhooks'"
    return database.execute(query).fetchone() is not None


def _webhook(row: sqlite3.Row) -> Webhook:
    names = ("id", "owner", "url", "host", "event", "body", "created_at", "attempts")
    return Webhook(*(row[name] for name in names))
