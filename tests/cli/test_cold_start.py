"""The fast start of a search: what it does not import, and that its results are the usual ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from nearfield.cli.cold_start import _is_small, _without_unused_packages
from nearfield.corpus.collection import Collection
from nearfield.inference.uncompiled_model import read_model
from nearfield.testing import write_tiny_model

pytestmark = pytest.mark.process
PROGRAM = """
import json, sys
from pathlib import Path
from nearfield.cli import cold_start
cold_start._UNUSED += tuple(json.loads(sys.argv[1]))
hits = cold_start.search("pets", "red dog", 2, mode="dense", explain=True)
status = Path("/proc/self/status")
print(json.dumps({
    "hits": [[hit.document, round(hit.stages["dense"]["score"], 1)] for hit in hits],
    "modules": sorted(sys.modules),
    "anonymous": [line.split()[1] for line in status.read_text().splitlines() if "RssAnon" in line]
    if status.exists()
    else [],
}))
"""
#: Modules that take much time or memory to import.
HEAVY = {"pandas", "openvino", "torch", "lance_namespace_urllib3_client", "pyarrow._dataset", "pyarrow._compute"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = write_tiny_model(tmp_path / "tiny")
    with Collection.create("pets", {"features": {"dense": {"model": str(folder)}}}, home=tmp_path / "home") as pets:
        pets.put([{"id": "cats", "text": "The cat sat on the mat."}, {"id": "dogs", "text": "A red dog ran."}])
    return tmp_path / "home"


@pytest.fixture
def usual(home: Path) -> list[list[str | float]]:
    """The hits of a search that imports everything."""
    with Collection.open("pets", home=home) as pets:
        hits = pets.search("red dog", 2, mode="dense", explain=True)
    return [[hit.document, round(hit.stages["dense"]["score"], 1)] for hit in hits]


def search(home: Path, *unused: str) -> dict[str, Any]:
    """Search in a process, in which more modules are replaced by empty ones."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(unused)]
    environment = {**os.environ, "NEARFIELD_COLLECTIONS": str(home)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_search_imports_little_and_finds_the_same(home: Path, usual: list[list[str | float]]) -> None:
    found = search(home)
    assert found["hits"] == usual
    assert HEAVY & set(found["modules"]) == set()
    # Without the pages of libraries: how many of these are mapped depends on what the system has in its cache.
    assert [kilobytes for kilobytes in found["anonymous"] if int(kilobytes) * 1024 > 100e6] == []


@pytest.mark.parametrize("needed", ["lancedb.db", "lancedb.table", "lancedb.query"])
def test_a_version_of_lancedb_that_needs_more_gets_it(home: Path, usual: list[list[str | float]], needed: str) -> None:
    found = search(home, needed)
    assert found["hits"] == usual
    assert "pyarrow._dataset" in found["modules"]


def test_packages_are_missing_in_the_block_only() -> None:
    with _without_unused_packages():
        empty = import_module("lance_namespace_urllib3_client.anything")
        assert issubclass(empty.SomeError, Exception)
        assert empty.SomeRequest() is not None
    assert "lance_namespace_urllib3_client.anything" not in sys.modules


def test_small_models_run_in_numpy(tmp_path: Path) -> None:
    assert _is_small(read_model(str(write_tiny_model(tmp_path / "tiny"))))
