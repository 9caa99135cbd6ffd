"""The catalogue: consistent in itself, and in agreement with the table it was made from."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from nearfield import catalog
from nearfield.catalog import Entry
from nearfield.errors import SettingsError
from tests.needs import missing

TABLE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "catalogue.tsv"
FAMILIES = {"bert", "roberta", "xlm-roberta", "mpnet", "modernbert"}
POOLINGS = {"cls", "mean"}
#: No revision of these is known to us: their newest is taken.
UNPINNED = {"sentence-transformers/multi-qa-mpnet-base-cos-v1"}


def test_there_are_enough_of_them() -> None:
    assert len(catalog.entries()) >= 45


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.id)
def test_each_entry_is_whole(entry: Entry) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.id)
    assert entry.family in FAMILIES
    assert entry.pooling in POOLINGS
    assert 64 <= entry.dimensions <= 4096
    assert 64 <= entry.max_length <= 32768
    assert entry.licence
    assert entry.languages
    assert entry.parameters is not None and entry.parameters > 1_000_000
    assert all(dim <= entry.dimensions for dim in entry.matryoshka)
    assert (entry.revision is None) == (entry.id in UNPINNED)
    assert entry.revision is None or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert set(entry.prompts) <= {"query", "document", "clustering", "classification"}


def test_every_name_finds_its_entry() -> None:
    for entry in catalog.entries():
        for name in entry.names:
            assert catalog.find(name) is entry
            assert catalog.find(name.upper()) is entry
    assert catalog.find("no-such-model") is None


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("bge-small", "Represent this sentence for searching relevant passages: ", None),
        ("e5-base", "query: ", "passage: "),
        ("minilm", None, None),
        ("bge-m3", None, None),
        ("arctic-l-v2", "query: ", None),
    ],
)
def test_the_prompts_that_folders_omit(name: str, query: str | None, document: str | None) -> None:
    entry = catalog.find(name)
    assert entry is not None
    assert (entry.prompts.get("query"), entry.prompts.get("document")) == (query, document)


def test_mistakes_in_a_file_name_the_nearest() -> None:
    whole = '[[model]]\nid = "a/b"\nfamily = "bert"\ndimensions = 8\nmax_length = 9\npooling = "cls"\nlicence = "mit"\n'
    assert catalog.read("x.toml", whole)[0].id == "a/b"
    with pytest.raises(SettingsError, match="Did you mean 'dimensions'"):
        catalog.read("x.toml", whole + "dimension = 5\n")
    with pytest.raises(SettingsError, match="Did you mean 'model'"):
        catalog.read("x.toml", "[[models]]\n")
    with pytest.raises(SettingsError, match="licence"):
        catalog.read("x.toml", whole.replace('licence = "mit"\n', ""))


def test_it_agrees_with_the_table_it_was_made_from() -> None:
    if not TABLE.exists():
        missing(f"the table is not here ({TABLE})")
        return
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    checked = 0
    for entry in catalog.entries():
        row = rows.get(entry.id)
        if row is None:
            assert entry.id in UNPINNED
            continue
        checked += 1
        assert entry.revision == row["revision"], entry.id
        if row["correction"]:
            continue  # the table says that its own figure is wrong, and what is right
        listed = re.findall(r"\d+", row["embed_dim"])
        assert str(entry.dimensions) in listed or entry.id.endswith("bge-small-zh-v1.5"), entry.id
        if not entry.id.startswith("sentence-transformers/paraphrase"):
            assert entry.max_length == int(float(row["max_tokens"])), entry.id
    assert checked >= 44
