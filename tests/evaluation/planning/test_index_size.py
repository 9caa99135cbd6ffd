"""Storage by hand calculation, and the formulas against what real stores take."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.evaluation.planning.index_size import BITS, INDICES, index_size, seconds_to_index
from nearfield.testing import tiny_encoder
from tests.support.cli_runner import Ran, run
from tests.support.databases import installed
from tests.support.postgres import NEW, PASSWORD, password, serving

Run = Callable[..., Ran]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


def test_a_million_vectors_of_768_dimensions() -> None:
    # 1,000,000 x 768 x 4 bytes.
    whole = index_size(1_000_000, 768).total
    assert whole == 3_072_000_000
    assert index_size(1_000_000, 768, "float16").total == 1_536_000_000
    assert (
        index_size(1_000_000, 768, "int8").total
        == index_size(1_000_000, 768, "uint8").total
        == whole // 4
        == 768_000_000
    )
    assert index_size(1_000_000, 768, "binary").total == index_size(1_000_000, 768, "ubinary").total == whole // 32
    assert whole // 32 == 96_000_000


@pytest.mark.parametrize(
    ("index", "dtype", "overhead"),
    [
        ("none", "float32", 0),
        # 1.5 times the vectors, as Qdrant's page counts.
        ("qdrant", "float32", 1_536_000_000),
        # A copy, and 8 bytes.
        ("lancedb", "float32", 3_080_000_000),
        ("lancedb-int8", "float32", 776_000_000),
        ("lancedb-binary", "float32", 116_000_000),
        # 128 of links, 12, and 68 / 15 of higher levels: 144.533...
        ("hnsw", "float32", 144_533_333),
        # 3,152 + 200 + 8 bytes: two to a page of 8,160, so 4,096 each, and 8 of the value's header.
        ("pgvector", "float32", 4_104_000_000),
        # 1,616 + 200 + 8: four to a page.
        ("pgvector", "float16", 2_056_000_000),
        # 176 + 200 + 8 = 384: twenty-one to a page, 390.095... each.
        ("pgvector", "binary", 398_095_238),
    ],
)
def test_an_index_adds_what_its_formula_says(index: str, dtype: str, overhead: int) -> None:
    assert index_size(1_000_000, 768, dtype, index).overhead == overhead


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("dimensions", [64, 384, 1536])
def test_the_formula_that_is_shown_is_the_one_that_counts(index: str, dimensions: int) -> None:
    names = {"d": dimensions, "m": 16, "floor": math.floor, "align8": lambda size: -(-size // 8) * 8}
    told = re.sub(r"(\d+) m", r"\1 * m", INDICES[index].formula.removesuffix(", m = 16"))
    for dtype in INDICES[index].dtypes:
        value = eval(told, {"__builtins__": {}}, {**names, "v": dimensions * BITS[dtype] / 8})
        assert index_size(1, dimensions, dtype, index).overhead == round(value), (told, dtype)


def test_bytes_of_vectors_are_those_of_the_encoder(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "tiny") as encoder:
        for dtype in BITS:
            data = encoder.encode(["a cat sat", "on the mat"], precision=dtype).data
            assert index_size(2, 32, dtype).total == data.nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 768, "float8"), "float8"),
        ((1, 0), "at least one"),
        ((1, 100, "binary"), "multiple of 8"),
        ((1, 768, "float32", "hsnw"), "Did you mean 'hnsw'"),
        ((1, 768, "int8", "pgvector"), "not int8"),
        ((-1, 768), "-1"),
    ],
)
def test_what_cannot_be_counted_is_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        index_size(*arguments)


def test_time_to_index() -> None:
    assert seconds_to_index(1_000_000, 128, 20_000) == 6400
    with pytest.raises(InputError, match="above 0"):
        seconds_to_index(1, 1, 0)


# -- real stores ----------------------------------------------------------------------------------------------------


def _rows(count: int, dimensions: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, dimensions)).astype(np.float32)


@pytest.mark.service
@pytest.mark.parametrize(
    ("name", "kind"), [("lancedb", "IvfFlat"), ("lancedb-int8", "IvfSq"), ("lancedb-binary", "IvfRq")]
)
def test_lancedb_takes_what_the_formula_says(tmp_path: Path, name: str, kind: str) -> None:
    installed("lancedb")
    import lancedb
    import pyarrow as pa

    count, dimensions = 4096, 256
    column = pa.FixedSizeListArray.from_arrays(pa.array(_rows(count, dimensions).ravel()), dimensions)
    table = lancedb.connect(tmp_path).create_table("t", pa.table({"vector": column}))
    before = _taken(tmp_path)
    table.create_index("vector", config=getattr(lancedb.index, kind)(distance_type="cosine", num_partitions=1))
    added = _taken(tmp_path) - before
    formula = index_size(count, dimensions, "float32", name).overhead
    # The formula counts 8 bytes for a row's number, which are packed where rows follow each other.
    assert formula - 8.5 * count <= added <= formula * 1.02


def _taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.network
@pytest.mark.service
@pytest.mark.slow
def test_pgvector_takes_what_the_formula_says() -> None:
    count, dimensions = 400, 768
    installed(NEW[0])
    with password(), serving(NEW) as server:
        import psycopg

        where = f"host={server.folder} dbname=postgres user=postgres"
        with psycopg.connect(where, password=PASSWORD, autocommit=True) as session:
            session.execute("CREATE EXTENSION IF NOT EXISTS vector")
            session.execute(f"CREATE TABLE t (v vector({dimensions}))")
            for row in _rows(count, dimensions):
                session.execute("INSERT INTO t VALUES (%s::vector)", [str(row.tolist())])
            session.execute("CREATE INDEX i ON t USING hnsw (v vector_l2_ops)")
            found = session.execute("SELECT pg_relation_size('i'), pg_column_size(v) FROM t LIMIT 1").fetchone()
    assert found is not None
    index, value = found
    formula = index_size(count, dimensions, "float32", "pgvector").overhead - 8 * count
    assert value in (4 * dimensions + 8, 4 * dimensions + 4)  # less four of its header where it is set apart
    assert formula <= index <= formula * 1.03  # a page for what the index is, and the last one half full


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command(nearfield: Run) -> None:
    said = nearfield("size", "1M", "--dims", 768, "--json")
    assert said.code == 0
    totals = {row["dtype"]: row["total"] for row in json.loads(said.out)["rows"]}
    assert totals == {"float32": 3_072_000_000, "float16": 1_536_000_000, "int8": 768_000_000, "binary": 96_000_000}
    shown = nearfield("size", "1,000,000", "--model", "bge-base", "--index", "qdrant", "--dtype", "float32")
    assert "4,608,000,000 (4.61 GB)" in shown.out and "--explain" in shown.out and "qdrant.tech" not in shown.out
    shown = nearfield(
        "size", "1,000,000", "--model", "bge-base", "--index", "qdrant", "--dtype", "float32", "--explain"
    )
    assert "qdrant.tech" in shown.out and "x dimensions x bits / 8" in shown.out


def test_the_command_counts_several_vectors_of_a_text_and_the_text(nearfield: Run) -> None:
    words = ("--dims", 128, "--per-text", 180, "--text-bytes", 900, "--dtype", "float32", "--json")
    (row,) = json.loads(nearfield("size", "10k", *words).out)["rows"]
    assert row["vectors"] == 1_800_000
    assert row["texts"] == 9_000_000
    assert row["total"] == 1_800_000 * 512 + 9_000_000


@pytest.mark.slow
def test_the_command_tells_the_time(nearfield: Run, tmp_path: Path) -> None:
    given = nearfield("size", "1M", "--dims", 384, "--tokens", 128, "--tokens-per-second", 20_000)
    assert "= 1:46:40 (107 minutes)" in given.out and "(as stated)" in given.out
    with tiny_encoder(tmp_path / "tiny"):
        measured = nearfield(
            "size", "1k", "--model", tmp_path / "tiny", "--dims", 32, "--tokens", 16, "--measure", "--json"
        )
    time = json.loads(measured.out)["time"]
    assert time["measured"] and time["seconds"] == pytest.approx(16_000 / time["tokens_per_second"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("1M",), "--dims"),
        (("many", "--dims", "8"), "many"),
        (("1M", "--dims", "8", "--tokens", "9"), "--tokens-per-second"),
        (("1M", "--dims", "8", "--index", "hsnw"), "hnsw"),
        (("1M", "--model", "naver/splade-v3"), "--terms"),
        (("1M", "--model", "nosuch"), "no model 'nosuch'"),
    ],
)
def test_the_command_says_what_is_missing(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    said = nearfield("size", *words)
    assert said.code == 2 and message in said.err
