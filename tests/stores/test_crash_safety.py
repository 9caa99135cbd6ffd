"""Stores: a process that is killed while it writes loses nothing of what a write returned for, and breaks nothing."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.stores import Record, TableSpec, connect
from tests.support.databases import DATABASES

pytestmark = [pytest.mark.process, pytest.mark.service, pytest.mark.slow]

TABLE = TableSpec("records", "dense", 16, fields={"turn": "int"})
COUNT, STEP = 120, 20
#: Writes all records over and over, and says so after each write.
WRITER = f"""
import sys
from nearfield.stores import connect
from tests.stores.test_crash_safety import TABLE, record
store = connect(sys.argv[1])
store.create(TABLE)
for turn in range(10_000):
    for start in range(0, {COUNT}, {STEP}):
        store.upsert(TABLE, [record(number, turn) for number in range(start, start + {STEP})])
        print(turn, start, flush=True)
    store.index(TABLE)
"""


def record(number: int, turn: int) -> Record:
    """Return a record as it is written in a turn."""
    key = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
    vector = np.random.default_rng([number, turn]).standard_normal(16).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return Record(key, "document", "v", number, f"text {turn}", {"turn": turn}, {"turn": turn}, vector)


@pytest.mark.parametrize(("name", "writes"), [("lancedb", 46), ("chroma", 29)])
def test_what_a_write_returned_for_survives(name: str, writes: int, tmp_path: Path) -> None:
    with DATABASES[name](tmp_path) as address:
        turns = killed_after(writes, address)
        store = connect(address)
        results = {record.ordinal: record for part in store.scan(TABLE, vectors=True) for record in part}
        assert store.count(TABLE) == len(results) == COUNT
        for number, item in results.items():
            least = turns[number // STEP * STEP]
            assert int(item.fields["turn"]) in (least, least + 1)
            whole = record(number, int(item.fields["turn"]))
            assert (item.id, item.text, item.payload) == (whole.id, whole.text, whole.payload)
            assert np.array_equal(item.vector, whole.vector)
        # And it goes on as if nothing had been.
        store.upsert(TABLE, [record(number, 7) for number in range(COUNT)])
        store.index(TABLE)
        hit = store.search(TABLE, [record(3, 7).vector], 1, exact=True)[0][0]
        assert (hit.record.ordinal, hit.record.text) == (3, "text 7")
        store.close()


def killed_after(writes: int, address: str) -> dict[int, int]:
    """Let a process write, kill it after so many writes, and return the last turn that each part was written in."""
    command: list[Any] = [sys.executable, "-c", WRITER, address]
    turns: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(writes):
            line = process.stdout.readline()
            assert line, "the writer stopped by itself"
            turn, start = map(int, line.split())
            turns[start] = turn
        process.kill()
        for line in process.stdout:
            turn, start = map(int, line.split())
            turns[start] = turn
    return turns
