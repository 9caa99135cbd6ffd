"""Requests of several kinds, each with a check of its reply."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

Array = np.ndarray[Any, np.dtype[Any]]
#: Says what is wrong with a reply's headers and body; None when nothing is.
Check = Callable[[Mapping[str, str], bytes], str | None]
SAME = 0.9999
#: Share of the range of all known scores by which a score may differ. In bfloat16 the scores of this reranker of random
#: weights change by up to 0.07 of it with the other inputs of a batch (in float32 by 0.00001 of it).
SCORE_SLACK = 0.12
FINGERPRINT = "x-nearfield-fingerprint"


@dataclass(frozen=True)
class Ask:
    """A request, and the check of its answer; ``status`` is that of the right answer."""

    kind: str
    path: str
    body: bytes
    check: Check
    status: int = 200
    media: str = "application/json"


@dataclass(frozen=True)
class KnownVectors:
    """Texts whose vectors a model gave at the start."""

    model: str
    texts: Sequence[str]
    vectors: Array
    fingerprint: str


@dataclass(frozen=True)
class KnownScores:
    """Queries and documents whose scores a reranker gave at the start, [query, document]."""

    model: str
    queries: Sequence[str]
    documents: Sequence[str]
    scores: Array


def vectors_body(model: str, texts: Sequence[str], *, coded: bool) -> bytes:
    """Return the body of a request for vectors, as base64 or as lists."""
    form = "base64" if coded else "float"
    return orjson.dumps({"model": model, "input": texts, "encoding_format": form})


def vectors(kind: str, known: KnownVectors, fresh: Sequence[str], places: Mapping[int, int], *, coded: bool) -> Ask:
    """Ask for the vectors of new texts, and of known ones put in at ``places`` (place to index of the known text)."""
    texts = list(fresh)
    for place, at in places.items():
        texts[place] = known.texts[at]

    def check(headers: Mapping[str, str], body: bytes) -> str | None:
        found = read_vectors(body)
        wanted = (len(texts), known.vectors.shape[1])
        if found.shape != wanted:
            return f"vectors of shape {found.shape}, not {wanted}"
        if headers.get(FINGERPRINT) != known.fingerprint:
            return f"vectors of {headers.get(FINGERPRINT)}, not of {known.model} ({known.fingerprint})"
        if not np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3):
            return "vectors that are not of unit length"
        ours, theirs = found[list(places)], known.vectors[list(places.values())]
        nearest = float(cosines(ours, theirs).min(initial=1.0))
        return None if nearest > SAME else f"other vectors than at the start (cosine {nearest:.6f})"

    return Ask(kind, "/v1/embeddings", vectors_body(known.model, texts, coded=coded), check)


def read_vectors(body: bytes) -> Array:
    """Return the vectors of a reply in OpenAI's form, in the order of their indices."""
    rows = sorted(orjson.loads(body)["data"], key=lambda row: row["index"])
    if [row["index"] for row in rows] != list(range(len(rows))):
        raise ValueError("the indices are not those of the inputs")
    given = [row["embedding"] for row in rows]
    return np.stack([np.frombuffer(base64.b64decode(x), "<f4") if isinstance(x, str) else np.asarray(x) for x in given])


def cosines(one: Array, other: Array) -> Array:
    """Return the cosine of each row with the same row of the other."""
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def rank_body(model: str, query: str, documents: Sequence[str]) -> bytes:
    """Return the body of a request to rank."""
    return orjson.dumps({"model": model, "query": query, "documents": documents, "activation": "identity"})


def rank(known: KnownScores, query: int, places: Sequence[int]) -> Ask:
    """Ask for known documents, in whatever order, to be ranked by a known query."""
    wanted = known.scores[query, list(places)]
    slack = SCORE_SLACK * float(np.ptp(known.scores))

    def check(_: Mapping[str, str], body: bytes) -> str | None:
        told = orjson.loads(body)
        if told["model"] != known.model:
            return f"ranked by {told['model']}, not by {known.model}"
        scores = read_scores(told, len(places))
        if not np.all(np.diff([row["score"] for row in told["results"]]) <= 0):
            return "results that are not in falling order"
        worst = float(np.abs(scores - wanted).max())
        return None if worst <= slack else f"other scores than at the start (by {worst:.4f}, where {slack:.4f} may be)"

    documents = [known.documents[at] for at in places]
    return Ask("rerank", "/rank", rank_body(known.model, known.queries[query], documents), check)


def read_scores(told: Mapping[str, Any], size: int) -> Array:
    """Return the scores of a reply by the documents' places; each must be there once."""
    rows = sorted(told["results"], key=lambda row: row["index"])
    if [row["index"] for row in rows] != list(range(size)):
        raise ValueError("the indices are not those of the documents")
    return np.array([row["score"] for row in rows])


def bad(chance: random.Random, model: str) -> Ask:
    """Ask something that no server can answer."""

    def body(**fields: Any) -> bytes:
        return orjson.dumps({"model": model, "input": "a text", **fields})

    kinds: list[tuple[bytes, int, str, str]] = [
        (b'{"model": ', 400, "/v1/embeddings", "application/json"),
        (b'{"input": "\xff\xfe"}', 400, "/v1/embeddings", "application/json"),
        (orjson.dumps({"model": model}), 400, "/v1/embeddings", "application/json"),
        (body(input=[]), 400, "/v1/embeddings", "application/json"),
        (body(input=7), 400, "/v1/embeddings", "application/json"),
        (body(dimensions=-1), 400, "/v1/embeddings", "application/json"),
        (body(model="no-such-model"), 404, "/v1/embeddings", "application/json"),
        (body(), 415, "/v1/embeddings", "text/plain"),
        (body(), 404, "/v1/no-such-path", "application/json"),
        (orjson.dumps({"query": "no documents"}), 400, "/rank", "application/json"),
    ]
    content, status, path, media = chance.choice(kinds)
    return Ask("bad", path, content, _told_why, status, media)


def _told_why(_: Mapping[str, str], body: bytes) -> str | None:
    told = orjson.loads(body)
    message = told.get("error", {}).get("message", "")
    return None if len(message) > 10 else f"a refusal that does not say why: {body[:100]!r}"
