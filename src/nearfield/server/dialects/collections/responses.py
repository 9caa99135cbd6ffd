"""Response bodies of the collections API, its server-sent events, and its error body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from nearfield.errors import NearfieldError
from nearfield.server.collections.document_renderings import rendering_addresses
from nearfield.server.dialects import JsonObject, shared_error_body

if TYPE_CHECKING:
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.indexing.report import IndexReport
    from nearfield.corpus.search.hit import PlacedChunk, SearchHit


def collection_to_dict(info: Mapping[str, Any]) -> JsonObject:
    """Return the description of a collection, without the paths of its files and its database."""
    definition = info["definition"]
    counts = {name: info[name] for name in ("name", "documents", "chunks", "tokens", "repeats", "states")}
    return {
        **counts,
        "fields": definition.get("fields", {}),
        "features": {name: _without_paths(feature) for name, feature in definition.get("features", {}).items()},
        "tables": info["tables"],
        "language": definition.get("language", "en"),
        "ocr": definition.get("ocr", False),
        "speech": bool(definition.get("speech", False)),  # it may name a folder
        "indexing": info["indexing"],
    }


def _without_paths(feature: Mapping[str, Any]) -> JsonObject:
    """Return a feature without the folders of its maps."""
    return {name: value for name, value in feature.items() if name not in ("query_map", "bridge")}


def answer_to_dict(name: str, answer: Answer) -> JsonObject:
    """Return an answer with the name of its collection."""
    data = answer.to_dict()
    passages = [_with_addresses(name, passage) for passage in data["passages"]]
    return {"collection": name, **data, "passages": passages}


def hit_to_dict(name: str, hit: SearchHit) -> JsonObject:
    """Return a hit with the addresses of its thumbnail and its clip."""
    return _with_addresses(name, hit.to_dict())


def _with_addresses(name: str, hit: Mapping[str, Any]) -> JsonObject:
    others = [_with_addresses(name, other) for other in hit["others"]]
    return {**hit, **rendering_addresses(name, hit), "others": others}


def chunk_to_dict(name: str, chunk: PlacedChunk) -> JsonObject:
    """Return a chunk of a document with the addresses of its thumbnail and its clip."""
    data = asdict(chunk)
    return {**data, **rendering_addresses(name, data)}


async def stream_answer(name: str, first: str | Answer, pieces: AsyncIterator[str | Answer]) -> AsyncIterator[bytes]:
    """Yield server-sent events: ``text`` for each piece, then one ``answer``, or an ``error``."""
    piece = first
    try:
        while True:
            if isinstance(piece, str):
                yield _encode_event("text", {"text": piece})
            else:
                yield _encode_event("answer", answer_to_dict(name, piece))
            piece = await anext(pieces)
    except StopAsyncIteration:
        return
    except NearfieldError as error:
        yield _encode_event("error", error_body(error))
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


def _encode_event(kind: str, data: JsonObject) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def report_to_dict(report: IndexReport) -> JsonObject:
    """Return how many documents were new, changed, failed and partial, with the first failures."""
    counts = {name: getattr(report, name) for name in ("new", "changed", "failed", "partial", "chunks", "tokens")}
    return {**counts, "failures": [{"document": key, "reason": reason} for key, reason in report.failures]}


def error_body(error: NearfieldError) -> JsonObject:
    """Return the error body, the same as on the paths that several APIs share."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return shared_error_body(error, kind, getattr(error, "param", None))
