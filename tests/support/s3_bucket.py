"""Contents of the bucket of tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as arrow
from pyarrow import parquet

from nearfield.fileio.s3.path import S3Path
from tests.support.cli_runner import Ran
from tests.support.s3_server import BUCKET

Run = Callable[..., Ran]
OUT = f"s3://{BUCKET}/out/"


def some_rows(count: int, word: str = "cat") -> list[dict[str, Any]]:
    """Return rows with ids and texts."""
    return [{"id": f"n{at}", "text": f"the {word} sat on mat {at}"} for at in range(count)]


def put_jsonl(name: str, rows: list[dict[str, Any]]) -> None:
    """Write an object of JSON lines."""
    path = S3Path(BUCKET, name)
    path.client.put(path.key, "".join(json.dumps(row) + "\n" for row in rows).encode())


def put_files(items: Mapping[str, bytes], folder: str) -> None:
    """Write objects by their names in a folder."""
    home = S3Path(BUCKET, folder)
    for name, data in items.items():
        home.client.put(home.child(name).key, data)


def report_of(ran: Ran, code: int = 0) -> dict[str, Any]:
    """Return the report of a command that ended with an exit status."""
    assert ran.code == code, ran.err
    report: dict[str, Any] = json.loads(ran.out)
    return report


def names(home: S3Path) -> list[str]:
    """Return the names of the objects in a folder."""
    return [item.key.removeprefix(f"{home.key}/") for item in home.client.list(home.key)]


def content(home: S3Path, name: str) -> bytes:
    """Return the bytes of an object."""
    found = home.client.get(home.child(name).key)
    assert found is not None
    return found.data


def manifest_of(home: S3Path) -> Any:
    """Return the manifest of a folder."""
    return json.loads(content(home, "_manifest.json"))


def shard_files(home: S3Path) -> list[bytes]:
    """Return the bytes of the files that the manifest names."""
    return [content(home, name) for shard in manifest_of(home)["shards"] for name in shard["files"]]


def ids_of(home: S3Path) -> list[str]:
    """Return the ids in the files that the manifest names."""
    tables = [parquet.read_table(arrow.BufferReader(data)) for data in shard_files(home)]
    return [key for table in tables for key in table["id"].to_pylist()]
