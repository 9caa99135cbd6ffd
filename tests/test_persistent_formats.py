"""What version 0.1 wrote on disk opens, says the same, and is continued without computing anything again.

The data are described in ``tests/data/0.1/README.md``. Each test works on a copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from pyarrow import parquet

import nearfield
from nearfield import Classifier, Collection, Encoder, compare, load
from nearfield.evaluation.stability import golden_vectors

# Internals that the tests need; adapt these when modules or classes move.
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.result_cache.disk_cache import DiskCache
from tests.support.batches import wait_for_batch
from tests.support.cli_runner import Ran, run
from tests.support.serving import serving

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data" / "0.1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
SPACES, PAPERS, EMBED, SERVER = (EXPECTED[name] for name in ("spaces", "papers", "embed", "server"))
VERSION = "0.1.0"
#: Largest difference of a value from another machine's.
TOLERANCE = 2e-4
#: File sources are recorded below this folder, which is the working directory of each process.
HERE = Path("/proc/self/cwd")
of_linux = pytest.mark.skipif(not HERE.exists(), reason="the recorded sources lie below /proc/self/cwd")
Take = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def portable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let fingerprints be those of models in ``/models``: those of some heads hash the path of their weights."""
    plain, models = json.dumps, str((DATA / "models").resolve())

    def dumps(*values: Any, **options: Any) -> str:
        return plain(*values, **options).replace(models, "/models")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "dumps", dumps)
        patch.setenv("NEARFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Take:
    """Return a function that copies parts of the data into the working directory, where the models are too."""
    (tmp_path / "models").symlink_to((DATA / "models").resolve(), target_is_directory=True)
    monkeypatch.chdir(tmp_path)

    def copy(*names: str) -> Path:
        for name in names:
            target = tmp_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (DATA / name).is_dir() else shutil.copy)(DATA / name, target)
        return tmp_path

    return copy


@pytest.fixture(scope="module")
def models(portable: None) -> Iterator[dict[str, Any]]:
    """Models that were loaded, by name."""
    loaded: dict[str, Any] = {}
    yield loaded
    for model in loaded.values():
        model.close()


@pytest.fixture
def model(models: dict[str, Any]) -> Callable[[str], Any]:
    """Return a function that loads a model by the name it is recorded under, such as ``models/dense``."""

    def loaded(name: str) -> Any:
        if name not in models:
            models[name] = load(str(DATA / name), precision="float32", compile_cache=False)
        return models[name]

    return loaded


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are encoded from now on; empty ones, which ask for a space, are left out."""
    seen: list[str] = []
    stream, encode = Encoder.stream, Encoder.encode

    def noted(text: str) -> str:
        seen.extend([text] if text else [])
        return text

    def streaming(self: Encoder, texts: Any, **options: Any) -> Any:
        return stream(self, map(noted, texts), **options)

    def encoding(self: Encoder, texts: Any, **options: Any) -> Any:
        return encode(self, noted(texts) if isinstance(texts, str) else list(map(noted, texts)), **options)

    monkeypatch.setattr(Encoder, "stream", streaming)
    monkeypatch.setattr(Encoder, "encode", encoding)
    return seen


def _same(current: Any, recorded: Any) -> None:
    """Compare what JSON can hold; numbers with fractions by their value."""
    if isinstance(recorded, dict):
        assert current.keys() == recorded.keys()
        for key in recorded:
            _same(current[key], recorded[key])
    elif isinstance(recorded, list):
        assert len(current) == len(recorded)
        for mine, theirs in zip(current, recorded, strict=True):
            _same(mine, theirs)
    elif isinstance(recorded, float):
        assert current == pytest.approx(recorded, rel=TOLERANCE, abs=TOLERANCE)
    else:
        assert current == recorded


# -- vector spaces ---------------------------------------------------------------------------------------------------


ENCODERS = [name for name, space in SPACES.items() if space["kind"] == "encoder"]
OUTPUTS = [(name, output) for name in ENCODERS for output in SPACES[name]["outputs"]]
VARIANTS = [(name, *variant) for name in ENCODERS for variant in SPACES[name].get("variants", ())]


@pytest.mark.parametrize("name", SPACES)
def test_a_model_keeps_its_kind_and_its_fingerprint(name: str, model: Callable[[str], Any]) -> None:
    loaded = model(f"models/{name}")
    assert type(loaded).__name__.lower() == SPACES[name]["kind"]
    assert loaded.fingerprint == SPACES[name]["fingerprint"]


@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_an_output_keeps_its_space_and_its_values(name: str, output: str, model: Callable[[str], Any]) -> None:
    recorded = SPACES[name]["outputs"][output]
    for role, values in recorded["values"].items():
        vectors = model(f"models/{name}").encode(EXPECTED["texts"], role=role, outputs=(output,))[output]
        assert vectors.fingerprint == recorded["fingerprints"][role]
        if output == "sparse":
            _same([{str(at): weight for at, weight in row.items()} for row in vectors.to_dicts()], values)
        else:
            _same([np.asarray(row).tolist() for row in vectors], values)


@pytest.mark.parametrize(("name", "options", "fingerprint"), VARIANTS)
def test_options_give_the_space_that_they_gave(
    name: str, options: dict[str, Any], fingerprint: str, model: Callable[[str], Any]
) -> None:
    ranges = {"ranges": np.array(options["ranges"], np.float32)} if "ranges" in options else {}
    assert model(f"models/{name}").encode([], **{**options, **ranges}).fingerprint == fingerprint


@pytest.mark.parametrize("name", [name for name in SPACES if "scores" in SPACES[name]])
def test_scores_are_what_they_were(name: str, model: Callable[[str], Any]) -> None:
    scorer, pairs = model(f"models/{name}"), [(first, second) for first, second in EXPECTED["pairs"]]
    if isinstance(scorer, Classifier):
        scores: list[Any] = [prediction.scores for prediction in scorer.predict(pairs)]
    else:
        scores = [float(scorer.score(first, [second]).data[0]) for first, second in pairs]
    _same(scores, SPACES[name]["scores"])


@pytest.mark.parametrize("name", ["dense", "splade", "colbert"])
def test_golden_vectors_are_reproduced(name: str, model: Callable[[str], Any]) -> None:
    report = golden_vectors.check(model(f"models/{name}"), golden_vectors.load(DATA / "golden" / f"{name}.json"))
    assert (report["reproduced"], report["fingerprint"]["same"]) == (True, True)


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def papers(take: Take, model: Callable[[str], Any]) -> Iterator[Collection]:
    home = take("collections/papers", "files", "rows.jsonl") / "collections"
    with Collection.open("papers", home=home, encoder_of=model) as collection:
        yield collection


def _same_documents(collection: Collection, recorded: list[dict[str, Any]], added: set[str]) -> None:
    """Compare documents, without the chunks that were ``added``.

    Texts of documents that were indexed again also have the headings that no chunk has. Documents that lose words in
    tiny chunks are partial, for which version 0.1 had no state.
    """
    current = _documents(collection)
    for mine, theirs in zip(current, recorded, strict=True):
        words = iter(mine["text"].split())
        assert all(word in words for word in theirs["text"].split())
        mine["text"] = theirs["text"]
        more = [chunk for chunk in collection.manifest.chunks(mine["id"]) if chunk.embedded in added]
        mine["chunks"] -= len(more)
        mine["tokens"] -= sum(chunk.tokens for chunk in more)
        if mine["state"] == "partial":
            reasons = [loss.reason for loss in collection.document(mine["id"]).losses]
            assert all("too short to be searched" in reason for reason in reasons)
            mine["state"] = "done"
    _same(current, recorded)


def _documents(collection: Collection) -> list[dict[str, Any]]:
    names = ("id", "title", "state", "error", "chunks", "tokens", "key", "source")
    return [
        {**{name: getattr(info, name) for name in names}, "fields": dict(info.fields), "text": collection.text(info.id)}
        for info in collection.documents()
    ]


def _answers(collection: Collection, options: dict[str, Any]) -> list[Any]:
    rankings = collection.search_many(EXPECTED["queries"], 5, **{**options, "explain": True})
    return [[_hit(collection, hit, options) for hit in hits] for hits in rankings]


def _hit(collection: Collection, hit: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return a hit with the score of its last stage, and the places in the text as extracted, as they are stored."""
    assert hit.text == collection.text(hit.document)[hit.start : hit.end]
    stored = collection.manifest.chunk(hit.id)
    assert stored is not None
    *_, last = hit.stages.values()
    duplicates = collection.manifest.duplicates_of(hit.id)
    places = [(chunk.document, *(chunk.payload.get(name) for name in ("start", "end", "page"))) for chunk in duplicates]
    return {
        **{name: getattr(hit, name) for name in ("id", "document", "text", "title")},
        **{name: stored.payload[name] for name in ("start", "end")},
        "score": last["score"],
        "headings": list(hit.headings),
        "fields": dict(hit.fields),
        "highlights": [list(span) for span in hit.highlights],
        "also": [list(place) for place in places],
        "stages": {stage: dict(facts) for stage, facts in hit.stages.items()} if options.get("explain") else {},
    }


@of_linux
def test_a_collection_lists_the_documents_that_it_held(papers: Collection) -> None:
    _same(_documents(papers), PAPERS["documents"])


@of_linux
def test_a_collection_has_its_definition_counts_and_spaces(papers: Collection) -> None:
    info = papers.info()
    del info["store"], info["definition"]["store"], info["indexing"]
    for table in info["tables"]:
        assert table.pop("bytes") > 0
    _same(json.loads(json.dumps(info)), PAPERS["info"])


@of_linux
@pytest.mark.parametrize("number", range(len(PAPERS["searches"])))
def test_a_search_finds_what_it_found(number: int, papers: Collection) -> None:
    options, answers = PAPERS["searches"][number]
    _same(_answers(papers, options), answers)


@of_linux
def test_a_collection_is_whole(papers: Collection) -> None:
    report = papers.verify()
    assert not any(report[name] for name in ("missing", "foreign", "unlike", "outdated"))


@of_linux
def test_indexing_again_embeds_nothing(papers: Collection, encoded: list[str]) -> None:
    report = papers.index()
    assert (report.unchanged, report.new, report.changed, report.removed, report.embedded) == (10, 0, 0, 0, 0)
    assert report.failed == 1, "a failed document is reported until it changes"
    assert encoded == []
    _same(_documents(papers), PAPERS["documents"])


@of_linux
def test_only_what_changes_is_embedded(papers: Collection, encoded: list[str]) -> None:
    (Path("files") / "world.html").write_text("<p>An owl, a crow and a wren.</p>", encoding="utf-8")
    report = papers.index()
    assert (report.changed, report.unchanged, report.failed) == (1, 9, 1)
    assert encoded
    assert all("owl" in text or "wren" in text for text in encoded)
    encoded.clear()
    assert papers.remove(["p2"]) == 1
    assert papers.put([{"id": "p3", "text": "A heron at the pond.", "topic": "birds", "year": 2022}]).new == 1
    assert [text for text in encoded if "heron" in text] == encoded
    assert [hit.document for hit in papers.search("heron", 1, mode="bm25")] == ["put:#p3"]
    assert {info.key for info in papers.documents() if info.source == "put:"} == {"p1", "p3"}


@of_linux
def test_documents_that_were_put_are_there_when_chunks_are_made_otherwise(papers: Collection) -> None:
    papers.configure({"chunks": {"by": "sentence", "tokens": 40}})
    papers.index()
    text = "A document that was put by the caller: the red cat and the blue dog sat on one mat."
    assert papers.text("p1").split() == text.split()
    fields = papers.document("p2").fields
    assert (fields["topic"], fields["year"]) == ("roads", 2021)


@of_linux
def test_an_export_is_imported_with_its_vectors(take: Take, model: Callable[[str], Any], encoded: list[str]) -> None:
    home = take("export", "files", "rows.jsonl") / "collections"
    Collection.import_("copy", Path("export"), home=home).close()
    with Collection.open("copy", home=home, encoder_of=model) as collection:
        assert collection.index().embedded == 0
        assert encoded == []
        _same(_documents(collection), PAPERS["documents"])
        for options, answers in PAPERS["searches"]:
            _same(_answers(collection, options), answers)


#: Chunks that repeat others under another heading: version 0.1 took them for duplicates, and did not embed them.
UNDER_HEADINGS = {"stopped": set[str](), "rebuilding": {"Dogs\nof the library,", "Dogs\nfor members alone."}}


@of_linux
@pytest.mark.parametrize("name", EXPECTED["interrupted"])
def test_an_interrupted_index_run_goes_on_where_it_stopped(
    name: str, take: Take, model: Callable[[str], Any], encoded: list[str]
) -> None:
    recorded = EXPECTED["interrupted"][name]
    home = take(f"collections/{name}", "files") / "collections"
    with Collection.open(name, home=home, encoder_of=model) as collection:
        for options, answers in recorded["before"]:
            _same(_answers(collection, options), answers)
        encoded.clear()
        added = UNDER_HEADINGS[name]
        assert collection.index().embedded == recorded["embedded"] + len(added)
        assert sorted(set(encoded) - added) == recorded["left"]
        _same_documents(collection, recorded["documents"], added)
        for options, answers in recorded["searches"]:
            current = _answers(collection, options)
            if added:  # they change the BM25 scores of others
                current, answers = [[[hit["id"] for hit in hits] for hits in each] for each in (current, answers)]
            _same(current, answers)
        assert collection.index().embedded == 0


# -- files of vectors ------------------------------------------------------------------------------------------------


@pytest.fixture
def embed(take: Take, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``nearfield embed`` in a copy of the folder that it was run in."""
    folder = (take("embed") / "embed").resolve()
    monkeypatch.chdir(folder)
    os.utime("texts.jsonl", (EMBED["mtime"], EMBED["mtime"]))
    for state in folder.rglob("state.json"):
        state.write_text(state.read_text(encoding="utf-8").replace("/recorded", str(folder)), encoding="utf-8")
    return lambda *words: run(capsys, monkeypatch, *EMBED["base"], *words)


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("texts.jsonl").read_text(encoding="utf-8").splitlines()]


def _read(path: Path) -> tuple[list[Any], Any]:
    """Return ids (row numbers, where there are none) and vectors of a file or of a folder of shards."""
    if path.is_dir():
        files = sorted(file for file in path.glob("part-*") if file.suffix != ".npy")
        ids = [name for file in files for name in _read(file)[0]]
        parts = sorted(path.glob("part-*.npy")) or files
        return ids, np.concatenate([_read(part)[1] for part in parts])
    if path.suffix == ".npy":
        return [*range(150)], np.load(path)
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        rows = parquet.read_table(path).to_pylist()
    return [row["id"] for row in rows], np.array([row.get("embedding", []) for row in rows], np.float32)


def _check_vectors(name: str, dims: int = 16) -> None:
    ids, vectors = _read(Path(name))
    whole = np.load("expected.npy")[:, :dims]
    whole = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    assert ids in ([row["id"] for row in _rows()], [*range(150)])
    bounds = 1e-3 if vectors.dtype == np.float16 or name.endswith(".parquet") else TOLERANCE
    np.testing.assert_allclose(np.asarray(vectors, np.float32), whole, atol=bounds)


@pytest.mark.parametrize("name", ["vectors.jsonl", "vectors.parquet", "shards", "shards-npy"])
def test_finished_files_of_vectors_hold_what_the_model_gives(name: str, embed: Callable[..., Ran]) -> None:
    _check_vectors(name)


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl", "vectors.parquet"])
def test_a_file_written_again_is_the_same(name: str, embed: Callable[..., Ran]) -> None:
    path, about = Path(name), Path(f"{name}.json")
    before, told = _read(path), json.loads(about.read_text(encoding="utf-8"))
    report = json.loads(embed(*EMBED["complete"][name]).out)
    after = _read(path)
    assert after[0] == before[0]
    np.testing.assert_allclose(np.asarray(after[1], np.float32), np.asarray(before[1], np.float32), atol=1.01)
    timed = ("seconds", "texts_per_second", "tokens_per_second")
    fresh = json.loads(about.read_text(encoding="utf-8"))
    assert {key: fresh[key] for key in told if key not in timed} == {
        key: value for key, value in told.items() if key not in timed
    }
    assert report["fingerprint"] == told["fingerprint"]


@pytest.mark.parametrize("name", ["stopped.npy", "stopped.jsonl", "stopped.parquet"])
def test_an_interrupted_file_goes_on_where_it_stopped(name: str, embed: Callable[..., Ran], encoded: list[str]) -> None:
    done = embed(*EMBED["stopped"][name])
    assert done.code == 0, done.err
    assert json.loads(done.out)["resumed_at"] == 128
    assert encoded == [row["text"] for row in _rows()[128:]]
    _check_vectors(name, 8 if name == "stopped.npy" else 16)
    assert not Path(f"{name}.partial").exists()


def test_an_interrupted_folder_of_shards_goes_on_with_the_next_shard(
    embed: Callable[..., Ran], encoded: list[str]
) -> None:
    done = embed(*EMBED["stopped"]["stopped-shards"])
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["state"], report["skipped"], report["written"], report["resumed_at"]) == ("complete", 1, 2, 60)
    assert encoded == [row["text"] for row in _rows()[60:]]
    _check_vectors("stopped-shards")


@pytest.mark.parametrize("name", ["shards", "shards-npy"])
def test_a_complete_folder_of_shards_is_left_as_it_is(name: str, embed: Callable[..., Ran], encoded: list[str]) -> None:
    before = {path.name: path.read_bytes() for path in Path(name).glob("part-*")}
    for more in ((), ("--check",)):
        report = json.loads(embed(*EMBED["complete"][name], *more).out)
        assert (report["state"], report["skipped"], report["written"], report["damaged"]) == ("complete", 3, 0, 0)
    assert encoded == []
    assert {path.name: path.read_bytes() for path in Path(name).glob("part-*")} == before


@pytest.mark.parametrize("name", ["shards", "shards-npy"])
def test_only_the_shard_of_a_row_that_changed_is_encoded(
    name: str, embed: Callable[..., Ran], encoded: list[str]
) -> None:
    rows = _rows()
    rows[70]["text"] = "the red cat"
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = json.loads(embed(*EMBED["complete"][name]).out)
    assert (report["skipped"], report["written"]) == (2, 1)
    assert encoded == [row["text"] for row in rows[60:120]]


# -- results of evaluation -------------------------------------------------------------------------------------------


def _compared(cache: str) -> dict[str, Any]:
    recorded = EXPECTED["evaluate"]
    options: dict[str, Any] = {"cache": f"evaluate/{cache}", "speed": False, "samples": recorded["samples"]}
    return compare(recorded["variants"], "evaluate/data", **options)


def _check_comparison(result: dict[str, Any]) -> None:
    recorded = EXPECTED["evaluate"]
    assert [variant["errors"] for variant in result["variants"]] == [[]] * 4
    for name in ("quality", "identity"):
        _same({variant["name"]: variant[name] for variant in result["variants"]}, recorded[name])
    pairs = [[pair[name] for name in ("a", "b", "difference", "p")] for pair in result["significance"]]
    _same(pairs, recorded["significance"])


def test_a_finished_comparison_encodes_nothing(take: Take, encoded: list[str]) -> None:
    take("evaluate")
    files = sorted(path.name for path in Path("evaluate/complete").glob("*.json"))
    _check_comparison(_compared("complete"))
    assert encoded == []
    if nearfield.__version__ == VERSION:  # results count for one version, vectors for all
        assert sorted(path.name for path in Path("evaluate/complete").glob("*.json")) == files


def test_an_interrupted_comparison_encodes_what_is_left(take: Take, encoded: list[str]) -> None:
    take("evaluate")
    _check_comparison(_compared("stopped"))
    assert sorted(encoded) == EXPECTED["evaluate"]["left"]


# -- the server's folder ---------------------------------------------------------------------------------------------


@pytest.fixture
def client(take: Take, model: Callable[[str], Any]) -> Iterator[openai.OpenAI]:
    """The official client of a server on a copy of the folder, in which two batches wait."""
    folder = take("server") / "server"
    with serving([model("models/dense")], data_dir=folder) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def _lines(client: openai.OpenAI, name: str | None) -> dict[str, Any]:
    assert name is not None
    text = client.files.content(name).text
    return {(line := json.loads(row))["custom_id"]: line for row in text.splitlines()}


@pytest.mark.network
def test_files_that_were_uploaded_are_listed_and_read(client: openai.OpenAI) -> None:
    assert client.files.retrieve(SERVER["note"]).filename == "täglich.jsonl"
    assert client.files.content(SERVER["note"]).content == b"not a batch, only kept\n"
    names = {SERVER["note"], *SERVER["files"].values(), SERVER["output"], SERVER["errors"]}
    assert names <= {file.id for file in client.files.list()}
    assert len(_lines(client, SERVER["files"]["half"])) == 8


@pytest.mark.network
def test_a_finished_batch_is_as_it_ended(client: openai.OpenAI) -> None:
    batch = client.batches.retrieve(SERVER["batches"]["done"])
    assert (batch.status, batch.output_file_id, batch.error_file_id) == (
        "completed",
        SERVER["output"],
        SERVER["errors"],
    )
    assert batch.metadata == {"kind": "done"}
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (4, 1)
    assert sorted(_lines(client, SERVER["output"])) == ["a0", "a1", "a2", "a3"]
    assert sorted(_lines(client, SERVER["errors"])) == ["bad"]


@pytest.mark.network
def test_batches_that_wait_go_on_after_a_restart(client: openai.OpenAI) -> None:
    half, waiting = (wait_for_batch(client, SERVER["batches"][name]) for name in ("half", "waiting"))
    assert (half.status, half.request_counts.completed, half.metadata) == ("completed", 8, {"kind": "half"})
    assert (waiting.status, waiting.request_counts.completed) == ("completed", 3)
    output = _lines(client, half.output_file_id)
    assert sorted(output) == [f"h{number}" for number in range(8)]
    assert sorted(_lines(client, waiting.output_file_id)) == ["w0", "w1", "w2"]
    partial = DATA / "server" / "files" / next(iter(SERVER["partial"]))
    earlier = [json.loads(line) for line in partial.read_text(encoding="utf-8").splitlines()]
    assert [output[line["custom_id"]] for line in earlier] == earlier
    page = httpx.get(str(client.base_url.join("/metrics"))).text
    assert re.findall(r'nearfield_inputs_total\{model="dense"\} ([\d.]+)', page) == ["8.0"]  # five of eight, and three


async def test_results_on_disk_are_not_computed_again(take: Take, model: Callable[[str], Any]) -> None:
    disk = DiskCache(take("server/results.sqlite") / "server" / "results.sqlite", 2**20)
    encoder = model("models/dense")
    encoder.cache = ResultCache(2**20, VERSION, disk)
    try:
        vectors = await encoder.aencode(SERVER["cached"])
        assert (encoder.cache.hits, encoder.cache.misses) == (3, 0)
    finally:
        encoder.cache = None
        disk.close()
    _same(np.asarray(vectors).tolist(), SERVER["vectors"])


@pytest.mark.network
def test_a_file_of_keys_lets_its_keys_in(take: Take, model: Callable[[str], Any]) -> None:
    app, boss = EXPECTED["keys"]
    with serving([model("models/dense")], api_key_file=take("api-keys.toml") / "api-keys.toml") as url:

        def status(key: str, path: str, **body: Any) -> int:
            return httpx.post(url + path, json=body, headers={"authorization": f"Bearer {key}"}).status_code

        cat = {"model": "dense", "input": "cat"}
        assert [status(key, "/v1/embeddings", **cat) for key in (app, boss, "nf-other")] == [200, 200, 401]
        assert status(app, "/models/unload", model="dense") == 403
        assert status(boss, "/models/unload", model="dense") not in (401, 403)
