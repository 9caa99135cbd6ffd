"""The maximum size of filters, and the trees that databases get."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.stores import connect
from nearfield.stores.filters import (
    MAX_CHARACTERS,
    MAX_CONDITIONS,
    MAX_VALUES,
    Compare,
    Either,
    balanced,
    parse_filter,
    typed,
)
from nearfield.stores.lancedb import sql
from nearfield.stores.store import Record, TableSpec

FIELDS: dict[str, Any] = {"year": "int", "tag": "str"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"or": [{"year": at} for at in range(45_000)]}, "45,000 conditions; the maximum is 256"),
        ({"and": [{"not": {"year": at}} for at in range(300)]}, "300 conditions"),
        ({"or": [{}] * 1000}, "1,000 conditions"),
        ({"or": [{"and": []}] * 1000}, "1,000 conditions"),
        ({"or": [{"year": {"gte": 1, "lt": 2}}] * 129}, "258 conditions"),
        ({"year": {"in": [*range(100_000)]}}, "100,000 values; the maximum is 10,000"),
        ({"year": {"nin": [*range(100_000)]}}, "100,000 values"),
        ({"year": [*range(100_000)]}, "100,000 values"),
        ({"or": [{"year": {"in": [*range(6000)]}}] * 2}, "12,000 values"),
        ({"tag": "a" * 2_000_000}, "2,000,000 characters"),
        ({"tag": {"in": ["a" * 100_000] * 11}}, "1,100,000 characters"),
    ],
)
def test_a_filter_that_is_too_large(where: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_filter(where, FIELDS)
    assert caught.value.param == "where"


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_number_that_no_float_holds(number: float) -> None:
    with pytest.raises(InputError, match="has a number as its value"):
        typed("duration", number, "float")


def test_deep_filters_and_long_names() -> None:
    deep: dict[str, Any] = {"year": 1}
    for _ in range(100_000):
        deep = {"not": deep}
    with pytest.raises(InputError, match="deeper than 32"):
        parse_filter(deep, FIELDS)
    while "not" in deep:  # released level by level: Python would do it recursively
        deep = deep.pop("not")
    for where in ({"x" * 10_000: 1}, {"year": {"x" * 10_000: 1}}):
        with pytest.raises(InputError) as caught:
            parse_filter(where, FIELDS)
        assert len(str(caught.value)) < 500


def test_a_filter_of_the_maximum_size() -> None:
    assert parse_filter({"or": [{"year": at} for at in range(MAX_CONDITIONS)]}, FIELDS)
    assert parse_filter({"year": {"in": [*range(MAX_VALUES)]}}, FIELDS)
    assert parse_filter({"tag": "a" * MAX_CHARACTERS}, FIELDS)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 45_000])
def test_trees_are_balanced(count: int) -> None:
    text = balanced([str(at) for at in range(count)], lambda left, right: f"({left}|{right})")
    assert text.replace("(", "").replace(")", "").split("|") == [str(at) for at in range(count)]
    depth = deepest = 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        deepest = max(deepest, depth)
    assert deepest == (count - 1).bit_length()


def test_sql_of_one_and_of_no_condition() -> None:
    assert sql(Either(())) == "FALSE"
    assert sql(Either((Compare("ordinal", "exists", True),))) == "(TRUE)"


@pytest.mark.parametrize("scheme", ["lancedb", "chroma", "qdrant"])
def test_a_thousand_conditions(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip({"lancedb": "lancedb", "chroma": "chromadb", "qdrant": "qdrant_client"}[scheme])
    table = TableSpec("t", "dense", dimensions=2, fields={"year": "int"})
    store = connect(f"{scheme}://{tmp_path / 'store'}")
    store.create(table)
    vector = np.array([1, 0], np.float32)
    ids = [f"00000000-0000-4000-8000-{at:012}" for at in range(3)]
    store.upsert(table, [Record(key, "d", "v", at, "t", {"year": at}, {}, vector) for at, key in enumerate(ids)])
    where = Either(tuple(Compare("year", "eq", at) for at in range(1, 1001)))
    assert sorted(hit.record.id for hit in store.search(table, [vector], 5, where=where)[0]) == ids[1:]
    if scheme == "qdrant":
        texts = Either(tuple(Compare("document", "gt", "d") for _ in range(17)))
        with pytest.raises(InputError, match="17 conditions"):
            store.count(table, texts)
    store.close()


def test_a_chain_that_overflowed_the_stack(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from nearfield.stores import connect
from nearfield.stores.filters import Compare, Either
from nearfield.stores.store import Record, TableSpec
table, store = TableSpec("t", "dense", dimensions=2, fields={{"year": "int"}}), connect("lancedb://{tmp_path}")
store.create(table)
vector = np.array([1, 0], np.float32)
store.upsert(table, [Record("00000000-0000-4000-8000-000000000001", "d", "v", 0, "t", {{"year": 7}}, {{}}, vector)])
print(len(store.search(table, [vector], 5, where=Either(tuple(Compare("year", "eq", at) for at in range(45_000))))[0]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "1"), result.stderr
