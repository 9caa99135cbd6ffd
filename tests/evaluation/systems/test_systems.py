"""Subjects: variants as text, models here and behind a URL, and what searches: BM25, hybrid, reranked, chunked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import numpy as np
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError
from nearfield.evaluation.datasets.dataset import Candidates, Dataset, PairRows, Reranking, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.datasets.synthetic import known_items
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.systems import from_encoder, open_system
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.local_model import LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.inference.loaded_model import LoadedModel
from nearfield.testing import tiny_encoder
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors
from tests.support.cli_runner import Ran, run

TEXTS = ["the cat sat on the mat", "hello world", "a red dog", "search the blue world", "query"]
DOCUMENTS = {
    "cats": "The cat sat on the mat. Hello world.",
    "dogs": "A red dog sat on a blue mat.",
    "both": "The dog and the cat. Search the world.",
    "long": "Hello hello hello. " * 30 + "The unicorn came at last.",
}
FOUND = Retrieval(
    DOCUMENTS,
    {"q1": "where is the unicorn?", "q2": "red dog", "q3": "cat on the mat"},
    {"q1": {"long": 1}, "q2": {"dogs": 1}, "q3": {"cats": 1}},
)
PETS = Dataset("pets", "retrieval", FOUND)


# -- variants ------------------------------------------------------------------------------------------------------

WRITTEN = [
    "all-MiniLM-L6-v2",
    "all-MiniLM-L6-v2?dimensions=256&dtype=binary",
    "owner/model?output=hybrid&rerank=maxsim&fuse=rrf&language=de",
    "/a folder/model?prompt=search query:+",
    "bm25",
    "bm25?language=de",
    "m?output=bm25&chunker=sentence&chunk_tokens=64&chunk_overlap=0",
    "m?url=https://host:1/v1&key_env=KEY",
    "m?prompt=a%26b%3Dc%2B100%25",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_a_variant_is_written_as_it_is_read(text: str) -> None:
    made = Variant.parse(text)
    assert Variant.parse(str(made)) == made
    assert str(made).replace("+", " ") == text.replace("+", " ")


def test_what_a_variant_says() -> None:
    made = Variant.parse("m?dimensions=8&prompt=none&output=hybrid")
    assert (made.model, made.dimensions, made.prompt, made.searches) == ("m", 8, "none", True)
    assert not Variant.parse("m?dtype=int8").searches
    assert Variant.parse("bm25").output == "bm25"


BAD = {
    "m?dimension=3": "Unknown option of a variant 'dimension'. Did you mean 'dimensions'",
    "m?dimensions=x": "dimensions must be a whole number, not 'x'",
    "m?dimensions=0": "dimensions must be a whole number of 1 or more",
    "m?dtype=int4": "Unknown dtype 'int4'",
    "m?output=dens": "Did you mean 'dense'",
    "m?dtype=int8&dtype=int8": "says dtype twice",
    "m?dtype": "name=value",
    "": "needs a model",
    "m?output=sparse&dtype=int8": "dense vectors, and the output is sparse",
    "m?chunk_tokens=3": "chunk_tokens has no effect without chunker",
    "m?rerank_depth=3": "rerank_depth has no effect without rerank",
    "m?fuse=rrf": "fuse has no effect",
    "m?key_env=K": "key_env has no effect without url",
    "m?url=http://h&chunker=auto": "chunker is for local models",
    "m?url=http://h&rerank=maxsim": "url excludes output and rerank",
}


@pytest.mark.parametrize("text", BAD)
def test_a_variant_that_cannot_be_is_told(text: str) -> None:
    with pytest.raises(InputError) as told:
        Variant.parse(text)
    assert BAD[text] in str(told.value)


# -- models here ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [None, 16])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
def test_vectors_are_those_that_the_encoder_gives(tiny: Encoder, dimensions: int | None, dtype: str) -> None:
    local = LocalModel(Variant("tiny", dimensions=dimensions, dtype=dtype), tiny)
    asked: dict[str, Any] = {"truncate_dim": dimensions, "force_truncate_dim": True} if dimensions else {}
    for role in ("query", "document"):
        theirs = tiny.encode(TEXTS, role=role, precision=dtype, **asked)
        ours = local.encode(TEXTS, role=role)
        assert ours.dtype == np.float32
        assert np.array_equal(ours, theirs.decode().data)
        assert np.allclose(local.similarity(ours, ours), tiny.similarity(theirs, theirs), atol=1e-6)


def test_bits_are_compared_by_hamming_distance(tiny: Encoder) -> None:
    local = LocalModel(Variant("tiny", dtype="binary"), tiny)
    bits = tiny.encode(TEXTS, precision="ubinary").data
    apart = np.unpackbits(bits[:, None] ^ bits[None], axis=2).sum(2)
    rows = local.encode(TEXTS, role="symmetric")
    assert local.similarity(rows, rows) == pytest.approx(1 - 2 * apart / tiny.dimensions, abs=1e-6)


def test_prompts_are_by_name_by_text_or_none(tiny: Encoder) -> None:
    def vectors(role: str, **told: str) -> Any:
        return LocalModel(Variant("tiny", **told), tiny).encode(TEXTS, role=role)  # type: ignore[arg-type]

    query, plain = tiny.encode(TEXTS, role="query").data, tiny.encode(TEXTS, prompt="").data
    assert np.array_equal(vectors("query"), query)
    assert not np.allclose(query, plain)
    assert np.array_equal(vectors("query", prompt="none"), plain)
    assert np.array_equal(vectors("query", prompt="passage"), tiny.encode(TEXTS, prompt_name="passage").data)
    assert np.array_equal(vectors("symmetric", prompt="blue: "), tiny.encode(TEXTS, prompt="blue: ").data)
    assert np.array_equal(vectors("document", prompt="none"), tiny.encode(TEXTS, role="document").data)
    assert np.array_equal(vectors("document", document_prompt="none"), plain)


def test_the_identity_changes_with_whatever_changes_vectors(tiny: Encoder) -> None:
    variants = ["tiny", "tiny?dimensions=16", "tiny?dtype=int8", "tiny?prompt=none", "tiny?document_prompt=none"]
    variants += ["tiny?max_length=8"]
    told = [LocalModel(Variant.parse(each), tiny).identity for each in variants]
    assert len(set(told)) == len(told)
    assert LocalModel(Variant("another name"), tiny).identity == told[0]


def test_variants_that_differ_only_afterwards_encode_once(tiny: Encoder) -> None:
    memo = EmbeddingCache()
    for text in ("tiny", "tiny?dimensions=16", "tiny?dtype=binary"):
        LocalModel(Variant.parse(text), tiny, memo).encode([*TEXTS, TEXTS[0]], role="query")
    assert (memo.encoded, memo.saved) == (len(TEXTS), 2 * len(TEXTS) + 3)
    LocalModel(Variant("tiny", prompt="none"), tiny, memo).encode(TEXTS, role="query")
    assert memo.encoded == 2 * len(TEXTS)


def test_a_full_memo_keeps_no_more_and_still_answers(tiny: Encoder) -> None:
    memo = EmbeddingCache(max_bytes=1)
    local = LocalModel(Variant("tiny"), tiny, memo)
    for _ in range(2):
        assert np.array_equal(local.encode(TEXTS, role="query"), tiny.encode(TEXTS, role="query").data)
    assert memo.saved == 1, "one row is kept, and then it is full"


def test_cut_texts_are_counted_once_for_each_time(tiny: Encoder) -> None:
    local = from_encoder(tiny)
    local.encode(["the cat " * 100, "short"], role="document")
    assert local.truncated == 1


def test_texts_that_the_model_cannot_read_are_counted_also_from_the_cache(
    tiny: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    memo = EmbeddingCache()
    for _ in range(2):
        local = LocalModel(Variant("tiny"), tiny, memo)
        local.encode(["the cat", "ร้านกาแฟ", "the cat 猫 sat", "การประชุม"], role="document")
        local.encode(["ร้านกาแฟ"], role="query")
        assert [local.unread, local.unread] == [3, 3]
    assert not caplog.records, "the result says it"


def test_unread_texts_are_not_counted_within_timings(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    local, tokenize = LocalModel(Variant("tiny"), tiny), MagicMock(wraps=tiny.tokenize)
    monkeypatch.setattr(tiny, "tokenize", tokenize)
    local.encode(["การประชุม"], role="document")
    assert not tokenize.called
    assert (local.unread, tokenize.call_count) == (1, 1)


@pytest.mark.slow
def test_sparse_and_multivectors(fleet: dict[str, LoadedModel]) -> None:
    model: Any = fleet["m3"]
    for output, kind in (("sparse", SparseVectors), ("multivector", MultiVectors)):
        local = LocalModel(Variant("m3", output=output), model)
        rows = local.encode(TEXTS, role="query")
        assert isinstance(rows, kind)
        theirs = model.encode(TEXTS, role="query", outputs=output)[output]
        assert np.allclose(local.similarity(rows, rows), theirs.similarity(theirs), atol=1e-5)
        found = evaluate(local, PETS, samples=0)
        assert set(found["per_item"]["nDCG@10"]) == {"q1", "q2", "q3"}
        assert 0 < found["score"] <= 100


def test_what_a_model_does_not_give_is_refused(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="gives no 'sparse' output"):
        LocalModel(Variant("tiny", output="sparse"), tiny)
    with pytest.raises(InputError, match="truncate_dim must be an integer from 1 to 32"):
        LocalModel(Variant("tiny", dimensions=64), tiny)
    with pytest.raises(InputError, match="no multiple of 8"):
        LocalModel(Variant("tiny", dimensions=9, dtype="binary"), tiny)


# -- what searches -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model."""
    place = tmp_path_factory.mktemp("model") / "tiny"
    tiny_encoder(place, precision="float32").close()
    return str(place)


def measured(text: str, data: Dataset = PETS, **options: Any) -> dict[str, Any]:
    return evaluate(text, data, samples=0, **options)


def test_bm25_needs_no_model() -> None:
    found = measured("bm25")
    assert found["metrics"]["MRR@10"] == pytest.approx(100), "each query has a word that its document alone has"
    assert found["subject"]["name"] == "bm25"
    assert found["seconds"]["encode"] > 0


def test_a_hybrid_joins_both(folder: str) -> None:
    found = measured(f"{folder}?output=hybrid")
    assert found["subject"]["fingerprint"]
    assert found["score"] > 0
    assert found["truncated"] == 1
    other = open_system(f"{folder}?output=hybrid&fuse=rrf")
    with closing(other), closing(open_system(f"{folder}?output=hybrid")) as first:
        assert other.identity != first.identity
        run_of = other.search(DOCUMENTS, {"q": "red dog"}, 2)
    assert len(run_of["q"]) == 2
    assert all(score <= 2 / 61 for score in run_of["q"].values()), "reciprocal ranks, two of them"


@pytest.mark.parametrize("chunker", ["sentence", "fixed", "late"])
def test_a_cut_document_scores_as_its_best_chunk(folder: str, chunker: str) -> None:
    variant = f"{folder}?chunker={chunker}&chunk_tokens=16&chunk_overlap=0&precision=float32"
    query = "The unicorn came at last."
    with closing(open_system(variant)) as subject:
        found = subject.search(DOCUMENTS, {"q": query}, 4)["q"]
        pieces = subject._chunker.split(DOCUMENTS)
        assert subject.chunk_count == len(pieces) > len(DOCUMENTS)
    with tiny_encoder(Path(folder), precision="float32") as encoder:
        asked = encoder.encode_query([query])
        best = {}
        for key in DOCUMENTS:
            texts = [each.text for each in pieces if each.document == key]
            # The long one's chunks are read in several runs: what they share is another test's.
            if chunker != "late":
                best[key] = float(encoder.similarity(asked, encoder.encode_document(texts)).max())
            elif key != "long":
                (rows,) = encoder.encode_late([texts], role="document")
                best[key] = float(encoder.similarity(asked, rows).max())
    assert set(found) == set(DOCUMENTS), "each document once, however many chunks it has"
    assert {key: found[key] for key in best} == pytest.approx(best, abs=1e-4)
    assert measured(variant)["truncated"] == 0, "no chunk is longer than the model reads"


def test_bm25_cuts_by_a_models_tokens(folder: str) -> None:
    with closing(open_system(f"{folder}?output=bm25&chunker=sentence&chunk_tokens=16")) as subject:
        assert list(subject.search(DOCUMENTS, {"q": "unicorn"}, 4)["q"]) == ["long"]
    with pytest.raises(InputError, match="A chunker counts tokens with a model"):
        open_system("bm25?chunker=sentence")


def test_reranking_by_sentences_and_by_a_cross_encoder(folder: str, fleet: dict[str, LoadedModel]) -> None:
    found = measured(f"{folder}?rerank=sentences&rerank_depth=4")
    assert found["settings"]["depth"] == 10
    crossed = str(fleet["reranker"].recipe.folder)
    with closing(open_system(Variant(output="bm25", rerank=crossed, rerank_depth=4))) as subject:
        run_of = subject.search(DOCUMENTS, {"q": "red dog on the mat"}, 4)["q"]
    scores = fleet["reranker"].score(["red dog on the mat"] * len(run_of), [DOCUMENTS[key] for key in run_of])  # type: ignore[attr-defined]
    assert list(run_of.values()) == pytest.approx(np.asarray(scores).ravel().tolist(), abs=2e-2)
    with pytest.raises(InputError, match="needs a model"):
        open_system("bm25?rerank=maxsim")


def test_multivectors_rerank_where_a_model_gives_them(fleet: dict[str, LoadedModel]) -> None:
    place = str(fleet["m3"].recipe.folder)
    with closing(open_system(Variant(place, output="hybrid", rerank="maxsim"))) as subject:
        found = subject.search(DOCUMENTS, {"q": "red dog"}, 4)["q"]
        vectors = subject._locals["multivector"]
        query, document = (
            vectors.encode(["red dog"], role="query"),
            vectors.encode([DOCUMENTS["dogs"]], role="document"),
        )
    sums = vectors.similarity(query, document)[0, 0] * (len(query.data) if query.average else 1)
    assert found["dogs"] == pytest.approx(float(sums), rel=0.05)


def test_a_search_reranks_each_querys_own_candidates() -> None:
    samples = [Candidates("red dog", ["A red dog."], ["A cat.", "A blue world."])]
    found = measured("bm25", Dataset("ranks", "reranking", Reranking(samples)))
    assert found["score"] == pytest.approx(100)


# -- behind a URL --------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_an_endpoint_is_measured_like_the_model_itself(url: str, tiny: Encoder) -> None:
    here = evaluate(LocalModel(Variant("tiny"), tiny), PETS, samples=0)
    there = evaluate(Variant("tiny-model", url=f"{url}/v1"), PETS, samples=0)
    assert there["metrics"] == pytest.approx(here["metrics"])
    assert there["per_item"]["nDCG@10"] == pytest.approx(here["per_item"]["nDCG@10"])
    assert there["subject"]["fingerprint"] == tiny.fingerprint
    assert there["truncated"] is None
    for told in ({"dimensions": 16}, {"dtype": "int8"}, {"prompt": "none"}, {"dtype": "binary", "dimensions": 8}):
        with closing(open_system(Variant("tiny-model", url=url, **told))) as subject:
            near = subject.encode(TEXTS, role="query")
        local = LocalModel(Variant("tiny", **told), tiny)
        assert np.allclose(near, local.encode(TEXTS, role="query"), atol=0.02), told


@pytest.mark.network
def test_the_key_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"\$NO_SUCH_KEY, which is not set"):
        open_system(Variant("tiny-model", url=url, key_env="NO_SUCH_KEY"))
    monkeypatch.setenv("SOME_KEY", "secret-of-mine")
    with closing(open_system(Variant("tiny-model", url=url, key_env="SOME_KEY"))) as subject:
        assert "secret-of-mine" not in json.dumps([subject.name, subject.identity, subject.to_dict()])


def test_an_endpoint_that_is_not_there_is_told() -> None:
    with pytest.raises(NearfieldError, match="does not answer"):
        open_system(Variant("m", url="http://127.0.0.1:9"))


class Flaky(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that is late once, drops a connection once, then answers; or always answers so."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[dict[str, Any]]] = []
    reply: ClassVar[dict[str, Any] | None] = None

    def do_GET(self) -> None:
        self._send(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**body, "key": self.headers["Authorization"]})
        if self.reply is not None:
            self._send(200, self.reply)
        elif len(self.asked) == 1:
            self._send(503, {})
        elif len(self.asked) == 2:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            rows = [{"index": at, "embedding": [float(len(text)), 1.0]} for at, text in enumerate(body["input"])]
            self._send(200, {"data": rows[::-1]})

    def _send(self, status: int, told: dict[str, Any]) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of such an endpoint; what waits between tries does not."""
    monkeypatch.setattr(Flaky, "asked", [])
    monkeypatch.setattr("nearfield.client.time.sleep", lambda _: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join(10)


@pytest.mark.network
def test_an_endpoint_that_fails_now_and_then_is_asked_again(flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "mine")
    with closing(open_system(Variant("m", url=flaky, key_env="SOME_KEY", prompt="ask: ", dimensions=2))) as subject:
        rows = subject.encode(["a", "bbb"], role="query")
    assert rows.tolist() == [[6.0, 1.0], [8.0, 1.0]], "in the order of the texts, each after its prompt"
    assert len(Flaky.asked) == 3
    assert {(each["key"], each["dimensions"]) for each in Flaky.asked} == {("Bearer mine", 2)}


@pytest.mark.network
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": "no"}, "is no OpenAI-compatible endpoint"),
        ({"data": [{"index": 0, "embedding": [1.0]}]}, r"shape \(1, 1\) for 2 texts"),
    ],
)
def test_an_endpoint_that_answers_otherwise_is_told(
    flaky: str, monkeypatch: pytest.MonkeyPatch, reply: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(Flaky, "reply", reply)
    with closing(open_system(Variant("m", url=flaky))) as subject, pytest.raises(NearfieldError, match=message):
        subject.encode(["a", "b"], role="document")


# -- a set of one's own collection ---------------------------------------------------------------------------------

GUIDE = """# Field guide

## Red foxes

Foxes sleep by day, and hunt at night.

## Summary

All is said about foxes here.

# Old owls

Owls hear a mouse under the snow.
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, folder: str) -> Path:
    """A folder with the collection ``guide``: a Markdown file with headings, and one with a title alone."""
    place = tmp_path_factory.mktemp("collections")
    files = tmp_path_factory.mktemp("files")
    (files / "guide.md").write_text(GUIDE)
    (files / "other.md").write_text("# Summary\n\nNothing much is said about boats.\n")
    with tiny_encoder(tmp_path_factory.mktemp("model") / "tiny") as encoder:
        config = {"features": {"dense": {"model": folder}}, "chunks": {"tokens": 16, "overlap": 0}}
        with Collection.create("guide", config, home=place, encoder_of=lambda _: encoder) as made:
            made.index([parse_source(str(files))])
            made.put([{"id": "owned", "title": "The lonely badger", "text": "It digs."}])
    return place


def opened(home: Path) -> Collection:
    return Collection.open("guide", home=home)


@pytest.mark.slow
def test_known_items_ask_for_what_stands_below_a_heading(home: Path) -> None:
    with opened(home) as collection:
        made = known_items(collection)
    rows: Any = made.rows
    asked = {rows.queries[key]: [rows.documents[each] for each in found] for key, found in rows.relevant.items()}
    assert made.synthetic is not None
    assert made.synthetic.startswith("Synthetic")
    assert "synthetic" in made.name
    assert any("hunt at night" in text for text in asked["Red foxes"])
    assert asked["The lonely badger"] == ["It digs."]
    assert "Summary" not in asked, "a heading of two documents, and of one word"
    assert not any("Red foxes" in text for text in rows.documents.values()), "the query itself is taken out"


def test_known_items_of_whole_documents_and_fewer(home: Path) -> None:
    with opened(home) as collection:
        made = known_items(collection, level="document")
        few = known_items(collection, level="document", queries=2, seed=1)
        same = known_items(collection, level="document", queries=2, seed=1)
        with pytest.raises(InputError, match="passage or document"):
            known_items(collection, level="page")  # type: ignore[arg-type]
    rows: Any = made.rows
    assert len(rows.documents) == 3
    assert few.digest == same.digest
    assert few.rows.counts()["queries"] == 2


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nearfield(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(capsys, monkeypatch, *words)


def test_the_command_measures_several_sets(nearfield: Callable[..., Ran], folder: str, tmp_path: Path) -> None:
    (tmp_path / "sts.tsv").write_text("score\tsentence1\tsentence2\n1\ta cat\ta dog\n2\ta cat\ta cat\n0\tred\thello\n")
    (tmp_path / "asked.jsonl").write_text(
        "".join(json.dumps({"query": text, "document": f"{text} world"}) + "\n" for text in TEXTS)
    )
    done = nearfield(
        "evaluate", folder, "-d", "sts.tsv", "-d", "asked.jsonl", "--dims", 16, "--worst", 1, "-o", "out.json"
    )
    assert done.code == 0, done.err
    assert "?dimensions=16, in points of 100" in done.out
    for told in (
        "Spearman",
        "nDCG@10",
        "95% interval",
        "Worst of asked",
        "expected: ",
        "not trained to be truncated to 16",
    ):
        assert told in done.out
    kept = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [each["dataset"]["name"] for each in kept] == ["sts", "asked"]
    assert len(kept[1]["per_item"]["nDCG@10"]) == len(TEXTS)
    as_json = nearfield("evaluate", folder, "-d", "sts.tsv", "--dims", 16, "--json", "--samples", 0)
    (told,) = json.loads(as_json.out)["results"]
    assert told["score"] == pytest.approx(kept[0]["score"])
    assert "per_item" not in told


def test_a_bad_set_is_told_before_a_model_is_loaded(nearfield: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "sts.tsv").write_text("score\tsentence1\tsentence2\nx\ta cat\ta dog\n")
    done = nearfield("evaluate", "no-such-model", "-d", "sts.tsv")
    assert (done.code, done.out) == (2, "")
    assert "sts.tsv, line 2: score should be a number" in done.err


def test_a_synthetic_set_says_so_wherever_it_is_shown(nearfield: Callable[..., Ran], tmp_path: Path) -> None:
    made = nearfield("synthetic", "guide", "made", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["synthetic"].startswith("Synthetic")
    assert load_dataset(tmp_path / "made").synthetic
    done = nearfield("evaluate", "bm25", "-d", "made")
    assert done.code == 0, done.err
    assert "made *" in done.out
    assert "* Synthetic: headings and titles" in done.out
    (told,) = json.loads(nearfield("evaluate", "bm25", "-d", "made", "--json").out)["results"]
    assert told["dataset"]["synthetic"].startswith("Synthetic")


@pytest.mark.slow
def test_judging_in_the_terminal(
    nearfield: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    typed = iter(["3", "0", "q"])
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: next(typed))
    asked = ("judge", "guide", "judged", "--query", "what do foxes hunt?", "--mode", "bm25", "--mode", "dense")
    done = nearfield(*asked)
    assert done.code == 0, done.err
    assert "2 new judgments, 2 in total for 1 query" in done.out
    assert "what do foxes hunt?" in done.out

    def end(*_: Any, **__: Any) -> str:
        raise typer.Abort

    monkeypatch.setattr(typer, "prompt", end)
    assert "0 new judgments, 2 in total" in nearfield(*asked).out
    found = load_dataset(tmp_path / "judged")
    assert found.synthetic is None
    assert sorted(next(iter(found.rows.relevant.values())).values()) == [0, 3]  # type: ignore[union-attr]
    assert len(found.rows.documents) >= 4, "the whole collection is in the set"  # type: ignore[union-attr]
    assert "No queries to judge" in nearfield("judge", "guide", "judged").err


def test_a_file_that_cannot_be_written_is_told_before_the_work(
    nearfield: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.cli.evaluate._results", lambda *_, **__: pytest.fail("work was begun"))
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "out.json"):
        done = nearfield("evaluate", "bm25", "-d", "made", "-o", place)
        assert done.code == 2 and str(place) in done.err


def test_a_pairs_set_of_the_command_line_needs_its_task(nearfield: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("1\ta cat\ta cat\n0\tred\thello\n")
    assert "name the task" in nearfield("evaluate", "bm25", "-d", "pairs.tsv").err
    done = nearfield("evaluate", "bm25", "-d", "pairs.tsv", "--task", "pairs")
    assert "bm25 can only search" in done.err
    assert load_dataset(tmp_path / "pairs.tsv", "pairs").rows == PairRows(
        ["a cat", "red"], ["a cat", "hello"], [1.0, 0.0]
    )
