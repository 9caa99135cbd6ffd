"""The fast start of a search: what it does not import, and that its results are the usual ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from nearfield.cli.cold_start import _is_small, _without_unused_packages
from nearfield.corpus.collection import Collection
from nearfield.inference.uncompiled_model import read_model
from nearfield.testing import write_tiny_model

pytestmark = pytest.mark.process
PROGRAM = """
import sys
from nearfield.cli.cold_start import open_collection
with open_collection("pets") as pets:
    hits = pets.search("red dog", 2, mode="dense", explain=True)
    print([(hit.document, round(hit.stages["dense"]["score"], 1)) for hit in hits])
print(sorted({"pandas", "openvino", "torch", "lance_namespace_urllib3_client"} & set(sys.modules)))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = write_tiny_model(tmp_path / "tiny")
    with Collection.create("pets", {"features": {"dense": {"model": str(folder)}}}, home=tmp_path / "home") as pets:
        pets.put([{"id": "cats", "text": "The cat sat on the mat."}, {"id": "dogs", "text": "A red dog ran."}])
    return tmp_path / "home"


def test_a_search_imports_little_and_finds_the_same(home: Path) -> None:
    with Collection.open("pets", home=home) as pets:
        hits = pets.search("red dog", 2, mode="dense", explain=True)
        usual = [(hit.document, round(hit.stages["dense"]["score"], 1)) for hit in hits]
    environment = {**os.environ, "NEARFIELD_COLLECTIONS": str(home)}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert lines[0] == str(usual)
    assert json.loads(lines[1].replace("'", '"')) == []


def test_packages_are_missing_in_the_block_only() -> None:
    with _without_unused_packages():
        empty = import_module("lance_namespace_urllib3_client.anything")
        assert issubclass(empty.SomeError, Exception)
        assert empty.SomeRequest() is not None
    assert "lance_namespace_urllib3_client.anything" not in sys.modules


def test_small_models_run_in_numpy(tmp_path: Path) -> None:
    assert _is_small(read_model(str(write_tiny_model(tmp_path / "tiny"))))
