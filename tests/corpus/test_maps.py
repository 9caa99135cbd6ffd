"""Collections with query maps and bridges: what is searched, what is embedded again, and what a killed move leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.corpus.collection import Collection
from nearfield.corpus.features import table_from_dict
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SpaceMismatch
from nearfield.vectors.dense import normalize
from nearfield.vectors.vector_map import VectorMap
from tests.support.cli_runner import run
from tests.support.paths import ROOT
from tests.support.related_models import write_relatives

TEXTS = {
    "cat.txt": "The cat sat on the mat. A blue dog said hello to the world.",
    "dog.txt": "A red dog sat on a blue mat and said hello to the other dog.",
    "world.txt": "Hello world. Search the world for a red mat, a blue cat and a dog.",
}
QUERY = "a blue cat"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_relatives(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def encoders(models: tuple[Path, Path]) -> Iterator[tuple[Encoder, Encoder]]:
    old, new = (Encoder(str(folder), compile_cache=False) for folder in models)
    yield old, new
    old.close()
    new.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "collections"
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(place))
    return place


@pytest.fixture
def collection(home: Path, files: Path, models: tuple[Path, Path], tmp_path: Path) -> Iterator[Collection]:
    features = {"dense": {"model": str(models[0])}, "short": {"of": "dense", "dtype": "binary"}}
    with Collection.create("docs", {"features": features, "store": f"memory:{tmp_path}"}) as created:
        created.index([parse_source(str(files))])
        yield created


def matrix(seed: int) -> Array:
    return (np.eye(32) + 0.3 * np.random.default_rng(seed).standard_normal((32, 32))).astype(np.float32)


def write_query_map(folder: Path, encoder: Encoder) -> VectorMap:
    space = encoder.fingerprint
    result = VectorMap("query", "linear", space, space, {"matrix": matrix(1)})
    result.save(folder)
    return result


def write_bridge(folder: Path, old: Encoder, new: Encoder) -> VectorMap:
    loss = {"measure": "recall@10", "score": 4.2, "interval": [3.0, 5.5]}
    rule = {"matrix": np.eye(32, dtype=np.float32), "offset": np.full(32, 0.01, np.float32)}
    result = VectorMap("bridge", "linear", new.fingerprint, old.fingerprint, rule, facts={"loss": loss})
    result.save(folder)
    return result


def stored(collection: Collection, feature: str = "dense") -> dict[str, Array]:
    """Return the vectors of the live table of a feature by the id of their chunk."""
    table = table_from_dict(collection.manifest.live_tables()[feature].described)
    return {record.id: record.vector for part in collection.store.scan(table, vectors=True) for record in part}


def dense_scores(collection: Collection, **options: Any) -> dict[str, float]:
    hits = collection.search(QUERY, 3, mode="dense", explain=True, **options)
    return {hit.id: hit.stages["dense"]["score"] for hit in hits}


def assert_scores(collection: Collection, query: Array) -> None:
    expected = {key: float(query @ vector) for key, vector in stored(collection).items()}
    assert dense_scores(collection) == pytest.approx(expected, abs=1e-4)


def count_documents(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets each text that is embedded as a document from now on."""
    seen: list[str] = []
    stream = Encoder.stream

    def spy(self: Encoder, texts: Any, **options: Any) -> Any:
        def listed() -> Iterator[str]:
            for text in texts:
                seen.append(text)
                yield text

        return stream(self, listed(), **options)

    monkeypatch.setattr(Encoder, "stream", spy)
    return seen


# -- query maps --------------------------------------------------------------------------------------------------------


def with_map(models: tuple[Path, Path], folder: Path) -> dict[str, Any]:
    dense = {"model": str(models[0]), "query_map": str(folder)}
    return {"features": {"dense": dense, "short": {"of": "dense", "dtype": "binary"}}}


def test_a_query_map_moves_queries_and_no_document_is_embedded_again(
    collection: Collection,
    models: tuple[Path, Path],
    encoders: tuple[Encoder, Encoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query_map, seen = write_query_map(tmp_path / "map", encoders[0]), count_documents(monkeypatch)
    plain = np.asarray(encoders[0].encode_query(QUERY))
    assert_scores(collection, plain)
    tables = [table.name for table in collection.manifest.vector_tables()]
    collection.configure(with_map(models, tmp_path / "map"))
    collection.index()
    assert_scores(collection, query_map.apply(plain[None])[0])
    assert [table.name for table in collection.manifest.vector_tables()] == tables
    assert seen == []
    assert collection.verify()["whole"]


def test_short_forms_are_searched_with_the_mapped_query(
    collection: Collection, models: tuple[Path, Path], encoders: tuple[Encoder, Encoder], tmp_path: Path
) -> None:
    query_map = write_query_map(tmp_path / "map", encoders[0])
    collection.configure(with_map(models, tmp_path / "map"))
    mapped = query_map.apply(np.asarray(encoders[0].encode_query([QUERY])))
    short = collection.features["short"].encode_queries([QUERY])
    np.testing.assert_array_equal(short[0], np.packbits(mapped[0] > 0))
    assert len(collection.search(QUERY, 3, mode="two-stage")) == 3


def test_a_map_of_another_model_or_that_is_nowhere_changes_nothing(
    collection: Collection, models: tuple[Path, Path], encoders: tuple[Encoder, Encoder], tmp_path: Path
) -> None:
    before = collection.config
    write_query_map(tmp_path / "other", encoders[1])
    with pytest.raises(SpaceMismatch, match="fitted for vectors of the space"):
        collection.configure(with_map(models, tmp_path / "other"))
    with pytest.raises(InputError, match="There is no query map"):
        collection.configure(with_map(models, tmp_path / "nowhere"))
    assert collection.config == before
    assert len(collection.search(QUERY)) == 3


@pytest.mark.parametrize(
    "feature", [{"kind": "sparse", "query_map": "map"}, {"of": "dense", "dtype": "binary", "bridge": "bridge"}]
)
def test_maps_are_for_dense_features_with_a_model(collection: Collection, feature: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="are for dense features"):
        collection.configure({"features": {"dense": {}, "other": feature}})


# -- bridges -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def move(models: tuple[Path, Path], encoders: tuple[Encoder, Encoder], tmp_path: Path) -> dict[str, Any]:
    """Return the definition of the new model, with a bridge from it to the vectors of the old one."""
    write_bridge(tmp_path / "bridge", *encoders)
    dense = {"model": str(models[1]), "bridge": str(tmp_path / "bridge")}
    return {"features": {"dense": dense, "short": {"of": "dense", "dtype": "binary"}}}


def test_searches_use_the_old_vectors_through_the_bridge_and_then_the_new_ones(
    collection: Collection, encoders: tuple[Encoder, Encoder], move: dict[str, Any]
) -> None:
    old, new = encoders
    collection.configure(move)
    query = np.asarray(new.encode_query([QUERY]))
    assert_scores(collection, normalize(query + 0.01)[0])
    note = collection.search(QUERY)[0].bridge
    assert "loses 4.2 points of recall@10 (95% 3.0 to 5.5)" in note
    assert old.name in note
    assert collection.search(QUERY, mode="bm25")[0].bridge == ""
    assert collection.search(QUERY, rerank="sentences", highlight="meaning")[0].bridge == note
    collection.index()
    assert_scores(collection, query[0])
    assert {hit.bridge for hit in collection.search(QUERY)} == {""}
    assert len(collection.search(QUERY, 3, mode="two-stage")) == 3
    assert collection.config.features["dense"].bridge == ""
    assert len(collection.store.tables()) == 2
    assert collection.verify()["whole"]


async def test_agents_read_what_a_search_through_the_bridge_loses(
    collection: Collection, home: Path, move: dict[str, Any]
) -> None:
    mcp = pytest.importorskip("mcp")
    from nearfield.server.collections.mcp import OpenCollections, create_server

    collection.configure(move)
    note = collection.search(QUERY)[0].bridge
    opened = OpenCollections(home=home)
    try:
        async with mcp.Client(create_server(opened)) as client:
            result = await client.call_tool("search", {"query": QUERY})
    finally:
        opened.close()
    assert note and {hit["bridge"] for hit in result.structured_content["results"]} == {note}
    assert result.content[0].text.count(f"note: {note}") == 1


def test_short_forms_wait_for_the_new_vectors(collection: Collection, move: dict[str, Any]) -> None:
    collection.configure(move)
    with pytest.raises(InputError, match="two-stage"):
        collection.search(QUERY, mode="two-stage")


def test_the_bridge_serves_too_where_documents_are_split_again(collection: Collection, move: dict[str, Any]) -> None:
    collection.configure({**move, "chunks": {"tokens": 16, "by": "sentence"}})
    before = collection.search(QUERY, mode="dense")
    assert all(hit.bridge for hit in before)
    collection.index()
    after = collection.search(QUERY, mode="dense")
    assert len(after) > len(before)
    assert not any(hit.bridge for hit in after)
    assert collection.config.features["dense"].bridge == ""


def test_after_the_move_the_bridge_is_no_longer_needed(
    collection: Collection, move: dict[str, Any], tmp_path: Path
) -> None:
    collection.configure(move)
    collection.index()
    for path in (tmp_path / "bridge").iterdir():
        path.unlink()
    with Collection.open("docs") as again:
        assert len(again.search(QUERY)) == 3
        assert again.index().unchanged == 3


def test_a_bridge_that_leads_elsewhere_is_refused_before_the_definition_changes(
    collection: Collection, models: tuple[Path, Path], encoders: tuple[Encoder, Encoder], tmp_path: Path
) -> None:
    before, (old, new) = collection.config, encoders
    write_bridge(tmp_path / "back", new, old)
    dense = {"model": str(models[1]), "bridge": str(tmp_path / "back")}
    with pytest.raises(SpaceMismatch, match="fitted for vectors of the space"):
        collection.configure({"features": {"dense": dense}})
    elsewhere = VectorMap("bridge", "linear", new.fingerprint, "eeee:32:float32", {"matrix": np.eye(32)})
    elsewhere.save(tmp_path / "elsewhere")
    with pytest.raises(SpaceMismatch, match="leads to whole vectors of the space eeee"):
        collection.configure({"features": {"dense": {**dense, "bridge": str(tmp_path / "elsewhere")}}})
    assert collection.config == before


def test_an_empty_collection_has_nothing_to_bridge_to(home: Path, move: dict[str, Any], tmp_path: Path) -> None:
    empty = Collection.create("empty", {"store": f"memory:{tmp_path}-empty"})
    with empty, pytest.raises(InputError, match="no vectors of feature 'dense'"):
        empty.configure(move)


def test_documents_that_change_or_go_during_a_move_are_not_found_in_their_old_form(
    collection: Collection, files: Path, move: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.configure(move)
    (files / "cat.txt").write_text("A red mat.", encoding="utf-8")
    (files / "dog.txt").unlink()

    def stop(self: Manifest, names: object) -> None:
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "activate", stop)
        with pytest.raises(RuntimeError):
            collection.index()
    hits = collection.search(QUERY, 10)
    assert any(hit.bridge for hit in hits)
    texts = {hit.text for hit in hits}
    assert not texts & {TEXTS["cat.txt"], TEXTS["dog.txt"]}
    assert TEXTS["world.txt"] in texts
    collection.index()
    assert {hit.text for hit in collection.search(QUERY, 10)} == {"A red mat.", TEXTS["world.txt"]}


#: The process is killed by SIGKILL before or after the first call of a method.
_DYING = """
import os, signal, sys
from {module} import {owner}
whole = {owner}.{method}
def dying(self, *rest, **options):
    if {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, *rest, **options)
    os.kill(os.getpid(), signal.SIGKILL)
{owner}.{method} = dying
from nearfield.corpus.collection import Collection
with Collection.open("docs") as collection:
    collection.index()
"""
MANIFEST = "nearfield.corpus.manifest.manifest", "Manifest"
#: Module, class, method, whether the process dies before the call, and whether searches still need the bridge.
MOMENTS = [
    pytest.param("nearfield.stores.lancedb", "LanceDbStore", "upsert", False, True, id="after-the-first-write"),
    pytest.param(*MANIFEST, "activate", True, True, id="before-the-switch"),
    pytest.param(*MANIFEST, "activate", False, False, id="after-the-switch"),
]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(("module", "owner", "method", "before", "bridged"), MOMENTS)
def test_a_killed_move_leaves_a_collection_that_answers_and_goes_on(
    module: str,
    owner: str,
    method: str,
    before: bool,
    bridged: bool,
    home: Path,
    files: Path,
    models: tuple[Path, Path],
    move: dict[str, Any],
) -> None:
    with Collection.create("docs", {"features": {"dense": {"model": str(models[0])}}}) as collection:
        collection.index([parse_source(str(files))])
        collection.configure(move)
    code = _DYING.format(module=module, owner=owner, method=method, before=before)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    with Collection.open("docs") as collection:
        hits = collection.search(QUERY, 3)
        assert len(hits) == 3
        assert {bool(hit.bridge) for hit in hits} == {bridged}
        collection.index()
        assert not any(hit.bridge for hit in collection.search(QUERY, 3))
        assert collection.config.features["dense"].bridge == ""
        assert collection.verify()["whole"]


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_commands_move_a_collection_and_say_what_a_search_loses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    files: Path,
    models: tuple[Path, Path],
    move: dict[str, Any],
    tmp_path: Path,
) -> None:
    assert run(capsys, monkeypatch, "index", "docs", files, "--model", models[0]).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "activate", lambda *_: (_ for _ in ()).throw(InputError("stopped")))
        ran = run(capsys, monkeypatch, "index", "docs", "--model", models[1], "--bridge", tmp_path / "bridge")
    assert ran.code == 2
    assert "loses 4.2 points of recall@10" in ran.err
    assert "loses 4.2 points" in run(capsys, monkeypatch, "search", QUERY, "-c", "docs").out.replace("\n", " ")
    ran = run(capsys, monkeypatch, "search", QUERY, "-c", "docs", "--json")
    assert {bool(hit["bridge"]) for hit in json.loads(ran.out)["results"]} == {True}
    assert run(capsys, monkeypatch, "index", "docs").code == 0
    ran = run(capsys, monkeypatch, "search", QUERY, "-c", "docs", "--json")
    assert {hit["bridge"] for hit in json.loads(ran.out)["results"]} == {""}


def test_the_command_sets_and_removes_a_query_map(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    collection: Collection,
    encoders: tuple[Encoder, Encoder],
    tmp_path: Path,
) -> None:
    write_query_map(tmp_path / "map", encoders[0])
    ran = run(capsys, monkeypatch, "index", "docs", "--query-map", tmp_path / "map")
    assert (ran.code, "Queries of docs are now moved by" in ran.err) == (0, True)
    with Collection.open("docs") as opened:
        assert opened.config.features["dense"].query_map == str(tmp_path / "map")
        assert "short" in opened.config.features
    assert "moved by the map" in run(capsys, monkeypatch, "collections", "show", "docs").out
    ran = run(capsys, monkeypatch, "index", "docs", "--query-map", "none")
    assert (ran.code, "now moved by no map" in ran.err) == (0, True)
    with Collection.open("docs") as opened:
        assert opened.config.features["dense"].query_map == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--bridge", "nowhere"), "needs --model"),
        (("--bridge", "nowhere", "--model", "tiny"), "no bridge in"),
        (("--query-map", "nowhere"), "no query map in"),
    ],
)
def test_wrong_maps_are_refused_by_the_command(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    collection: Collection,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    ran = run(capsys, monkeypatch, "index", "docs", *arguments)
    assert ran.code == 2
    assert reason in ran.err
