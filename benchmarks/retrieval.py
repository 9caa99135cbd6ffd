"""Quality and speed of each search mode on data sets with known relevant documents.

``python -m benchmarks --only retrieval``. It needs the public sets in ``../shared/data`` (BEIR's layout).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nearfield import Encoder
from nearfield.corpus.config import FeatureConfig as Told
from nearfield.corpus.features import Feature
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.corpus.search.plan import RERANKED_SENTENCES
from nearfield.corpus.search.searcher import Searchable, Searcher
from nearfield.stores import Record, Store, connect

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODEL = "all-MiniLM-L6-v2"
#: Each set, and how many of its queries are taken: every so manieth.
SETS = {"scifact": 1, "squad-dev": 20, "xquad/en": 3}
#: nDCG@10 of plain dense search as published (MTEB), and how far from it ours may be.
PUBLISHED, ALLOWED = {"scifact": 64.51}, 0.5
FEATURES = {
    "dense": Told(model=MODEL),
    "short": Told(model=MODEL, dimensions=256, force=True, of="dense"),
    "binary": Told(model=MODEL, dtype="binary", of="dense"),
}
#: Ways to search: the features and keywords that each needs, and its options.
WAYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "dense": (("dense",), {"mode": "dense"}),
    "bm25": (("bm25",), {"mode": "bm25"}),
    "hybrid, RRF": (("dense", "bm25"), {"mode": "hybrid", "fuse": "rrf"}),
    "hybrid, weighted": (("dense", "bm25"), {"mode": "hybrid", "fuse": "weighted"}),
    "256 of 384 alone": (("short",), {"mode": "short"}),
    "two-stage, 256 of 384": (("dense", "short"), {"mode": "two-stage"}),
    "binary alone": (("binary",), {"mode": "binary"}),
    "two-stage, binary": (("dense", "binary"), {"mode": "two-stage"}),
    "dense, by sentences": (("dense",), {"mode": "dense", "rerank": "sentences"}),
    "hybrid, by sentences": (("dense", "bm25"), {"mode": "hybrid", "rerank": "sentences"}),
}
#: Sets that are not reranked by sentences: that would take as long as all the rest.
WITHOUT_SENTENCES = ("scifact",)
#: Queries that are timed one by one, and of those that are reranked.
_TIMED, _TIMED_RERANKED = 50, 5
_BATCH = 512


@dataclass(frozen=True)
class Task:
    """One set: documents and queries by their ids, and which are relevant."""

    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Index:
    """All that a set is searched by, and what it took to make, by the name of each part.

    ``remembering`` are the features too, which encode each query and sentence once for all ways: they are not timed.
    """

    store: Store
    features: Mapping[str, Searchable]
    manifest: Manifest
    parts: dict[str, dict[str, float]]
    encoding: dict[str, float]
    remembering: Mapping[str, Searchable]


class Remembered:
    """Encodes each text once."""

    def __init__(self, encode: Callable[[Sequence[str]], Any]) -> None:
        self._encode = encode
        self._known: dict[str, Any] = {}

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= zip(new, self._encode(new), strict=True)
        return [self._known[text] for text in texts]


def measure(*, quick: bool) -> dict[str, Any]:
    """Return figures of each set and way; ``met`` says whether plain dense search reaches what is published."""
    found: dict[str, Any] = {"model": MODEL, "sets": {}}
    with Encoder(MODEL) as encoder:
        found["precision"] = encoder.precision
        for name, every in SETS.items():
            if quick and name != "xquad/en":
                continue
            ways = [way for way in WAYS if "sentences" not in way or name not in WITHOUT_SENTENCES]
            found["sets"][name] = _set(encoder, read(DATA / name, 20 if quick else every), ways)
            print(table({"sets": {name: found["sets"][name]}}), flush=True)
    told = {name: found["sets"][name]["ways"]["dense"]["nDCG@10"] for name in PUBLISHED if name in found["sets"]}
    found["published"] = {name: {"nDCG@10": PUBLISHED[name], "ours": value} for name, value in told.items()}
    found["met"] = all(abs(value - PUBLISHED[name]) <= ALLOWED for name, value in told.items())
    return found


def read(folder: Path, every: int) -> Task:
    """Read a set: a document is title, space and text."""
    documents = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in _lines(folder / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in list(_lines(folder / "queries.jsonl"))[::every]}
    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        if query in queries:
            relevant.setdefault(query, {})[document] = int(score)
    return Task(documents, queries, relevant)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def _set(encoder: Encoder, task: Task, names: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        index = _index(encoder, task, Path(place))
        ways = {name: _way(index, task, *WAYS[name]) for name in names}
        index.manifest.close()
        index.store.close()
    counts = {"documents": len(task.documents), "queries": len(task.queries)}
    return {**counts, **index.encoding, "ways": ways}


# -- indexing ------------------------------------------------------------------------------------------------------


def _index(encoder: Encoder, task: Task, place: Path) -> Index:
    """Encode the documents once, and write them and their shorter forms, one whole document as one chunk."""
    texts = list(task.documents.values())
    started = time.perf_counter()
    vectors = encoder.encode_document(texts)
    encoding = {
        "encoding_s": round(time.perf_counter() - started, 1),
        "tokens": int(vectors.tokens.sum()),
        "truncated": int((vectors.dropped > 0).sum()),
    }
    store = connect(f"lancedb://{place}/vectors")
    parts, features = {}, {}
    for name, told in FEATURES.items():
        feature = Feature(name, told, encoder)
        features[name], parts[name] = _write(store, feature, task, vectors.data)
    manifest = Manifest(place / "manifest.db")
    parts["bm25"] = _keywords(manifest, task)
    sentences = Remembered(encoder.encode_document)
    remembering = {
        name: replace(each, encode_queries=Remembered(each.encode_queries), encode_documents=sentences)
        for name, each in features.items()
    }
    return Index(store, features, manifest, parts, encoding, remembering)


def _write(store: Store, feature: Feature, task: Task, whole: Any) -> tuple[Searchable, dict[str, float]]:
    held = feature.table(feature.name, {})
    records = [
        Record(_id(key), key, "1", 0, text, {}, {}, vector)
        for (key, text), vector in zip(task.documents.items(), feature.shape(whole), strict=True)
    ]
    started = time.perf_counter()
    store.create(held)
    for start in range(0, len(records), _BATCH):
        store.upsert(held, records[start : start + _BATCH])
    store.index(held)
    cost = {"build_s": time.perf_counter() - started, "MB": (store.size(held) or 0) / 1e6}
    made = Searchable(
        held,
        feature.encode_queries,
        of=feature.config.of,
        shape=feature.shape,
        encode_documents=feature.encoder.encode_document,
    )
    return made, cost


def _keywords(manifest: Manifest, task: Task) -> dict[str, float]:
    with manifest.writing():
        for key, text in task.documents.items():
            chunk = ChunkRecord(_id(key), key, "1", 0, text, "", {}, {}, 0)
            manifest.replace(DocumentRecord(key, "", key, key, "", "1"), [chunk], [], [], new_chunks=True)
    started = time.perf_counter()
    manifest.keywords.rebuild()
    manifest.keywords.optimize()
    return {"build_s": time.perf_counter() - started, "MB": manifest.keywords.size() / 1e6}


def _id(key: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, key))


# -- searching -----------------------------------------------------------------------------------------------------


def _way(index: Index, task: Task, needs: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    features = {name: index.features[name] for name in needs if name != "bm25"}
    words = index.manifest.keywords if "bm25" in needs else None
    searcher = Searcher(index.store, {name: index.remembering[name] for name in features}, words)
    # As many candidates as ten results are chosen from, so that one search is judged at 10 and at 100.
    k = RERANKED_SENTENCES if "rerank" in options else 100
    depth = {} if "rerank" in options else {"depth": 100}
    found = searcher.search_many(list(task.queries.values()), k, **{**options, **depth})
    run = {key: {each.document: each.score for each in row} for key, row in zip(task.queries, found, strict=True)}
    return {
        **_judged(task, run, reranked="rerank" in options),
        "ms": round(_milliseconds(Searcher(index.store, features, words), list(task.queries.values()), options), 1),
        "build_s": round(sum(index.parts[name]["build_s"] for name in needs), 2),
        "MB": round(sum(index.parts[name]["MB"] for name in needs), 1),
    }


def _judged(task: Task, run: Mapping[str, Mapping[str, float]], *, reranked: bool) -> dict[str, Any]:
    import ir_measures
    from ir_measures import R, nDCG

    found = ir_measures.calc_aggregate([nDCG @ 10, R @ 100], task.relevant, run)
    recall = None if reranked else round(100 * found[R @ 100], 1)
    return {"nDCG@10": round(100 * found[nDCG @ 10], 2), "recall@100": recall}


def _milliseconds(searcher: Searcher, queries: Sequence[str], options: dict[str, Any]) -> float:
    """Return the median time of a search for ten results, one query at a time, its encoding in it."""
    taken = []
    for query in queries[: _TIMED_RERANKED if "rerank" in options else _TIMED]:
        started = time.perf_counter()
        searcher.search(query, 10, **options)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| set | way | nDCG@10 | recall@100 | ms a query | build, s | index, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, told in results["sets"].items():
        for way, row in told["ways"].items():
            recall = "" if row["recall@100"] is None else row["recall@100"]
            figures = [f"{row['nDCG@10']:.2f}", recall, row["ms"], row["build_s"], row["MB"]]
            lines.append(f"| {name} | {way} | " + " | ".join(map(str, figures)) + " |")
    return "\n".join(lines)
