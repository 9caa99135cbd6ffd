"""Cohere's embed, rerank and tokenize APIs, v1 and v2: https://docs.cohere.com/reference/embed

Relevance scores lie between 0 and 1 as in the hosted API: see ``_relevance`` for what becomes of other scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError
from nearfield.recipe import Multivector, Normalize
from nearfield.reranker import Scorer
from nearfield.server.dialects import Reply, RequestContext, Route, shared_error_body
from nearfield.server.dialects.schemas import ErrorDetail, Name, in_base64
from nearfield.server.exchange import Encode, Rank, Tokenize
from nearfield.server.logs import REQUEST_ID
from nearfield.vectors.dense import Vectors, quantize
from nearfield.vectors.quantization import unit_ranges

InputType = Literal["search_document", "search_query", "classification", "clustering", "image"]
Kind = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
Truncate = Literal["NONE", "START", "END"]
Count = Annotated[int, msgspec.Meta(ge=1)]
_TRUNCATE = {"NONE": "error", "START": "left", "END": "right"}
_ROLES = {"search_query": "query", "search_document": "document"}
#: Names of tasks and prompts that serve an input type; ``separation`` is what Jina calls clustering.
_TASKS: Mapping[str, tuple[str, ...]] = {
    "search_query": ("retrieval.query",),
    "search_document": ("retrieval.passage",),
    "classification": ("classification",),
    "clustering": ("clustering", "separation"),
}
#: Tokens of a document that v2 reads unless a request says otherwise.
_DOCUMENT_TOKENS = 4096
#: Fields of a request to rerank that no other API on that path has.
_OWN = frozenset({"rank_fields", "max_chunks_per_doc"})
#: Documents that a search unit pays for: https://docs.cohere.com/docs/rerank-overview
_UNIT = 100
#: Arguments of the encoder that have another name in this API.
_PARAMS = {
    "input": "texts",
    "role": "input_type",
    "task": "input_type",
    "prompt_name": "input_type",
    "precision": "embedding_types",
    "dimensions": "output_dimension",
    "truncate_dim": "output_dimension",
    "max_length": "max_tokens",
    "top_k": "top_n",
}


class CohereEmbedV1(msgspec.Struct):
    """The body of POST /v1/embed: https://docs.cohere.com/v1/reference/embed

    Without ``model``, the first that gives vectors.
    """

    texts: list[str] | None = None
    images: list[Any] | None = None
    model: Name | None = None
    input_type: InputType | None = None
    embedding_types: list[Kind] | None = None
    truncate: Truncate | None = None


class CohereContent(msgspec.Struct):
    """A part of an input. Models read text alone here."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: Any = None


class CohereInput(msgspec.Struct):
    """An input in parts, which become one vector: texts are joined by line ends."""

    content: list[CohereContent]


class CohereEmbed(msgspec.Struct):
    """The body of POST /v2/embed: https://docs.cohere.com/reference/embed"""

    model: Name
    input_type: InputType
    texts: list[str] | None = None
    images: list[Any] | None = None
    inputs: list[CohereInput] | None = None
    max_tokens: Count | None = None
    output_dimension: int | None = None
    embedding_types: list[Kind] | None = None
    truncate: Truncate | None = None


class CohereVersion(msgspec.Struct):
    """The version of the API that answered."""

    version: Literal["1", "2"]


class CohereUnits(msgspec.Struct, omit_defaults=True):
    """What the hosted API would count. Nothing is billed here."""

    input_tokens: int | None = None
    search_units: int | None = None


class CohereMeta(msgspec.Struct, omit_defaults=True):
    """What is true of a reply as a whole."""

    api_version: CohereVersion
    billed_units: CohereUnits | None = None
    #: Smallest and largest value that int8 and uint8 stand for, in 255 equal steps: uint8 = int8 + 128.
    embedding_range: tuple[float, float] | None = None
    warnings: list[str] | None = None


class CohereFloats(msgspec.Struct, tag_field="response_type", tag="embeddings_floats"):
    """The reply of POST /v1/embed without ``embedding_types``."""

    id: str
    texts: list[str]
    embeddings: list[list[float]]
    meta: CohereMeta


class CohereVectors(msgspec.Struct, omit_defaults=True, rename={"floats": "float"}):
    """The vectors in each type that was asked for.

    ubinary packs x > 0, eight to a byte, most significant bit first; binary is that minus 128; base64 is float32,
    little-endian.
    """

    floats: list[list[float]] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereByType(msgspec.Struct, tag_field="response_type", tag="embeddings_by_type"):
    """The reply of /v2/embed, and of /v1/embed with ``embedding_types``."""

    id: str
    texts: list[str]
    embeddings: CohereVectors
    meta: CohereMeta


class CohereRerankV1(msgspec.Struct):
    """The body of POST /v1/rerank: https://docs.cohere.com/v1/reference/rerank

    Without ``model``, the first that ranks. Of a document that is an object, ``rank_fields`` are read in their order,
    ``text`` unless they are given.
    """

    query: str
    documents: list[str | dict[str, Any]]
    model: Name | None = None
    top_n: Count | None = None
    rank_fields: list[str] | None = None
    return_documents: bool = False


class CohereRerank(msgspec.Struct):
    """The body of POST /v2/rerank: https://docs.cohere.com/reference/rerank"""

    model: Name
    query: str
    documents: list[str]
    top_n: Count | None = None
    max_tokens_per_doc: Count = _DOCUMENT_TOKENS


class CohereRanked(msgspec.Struct, omit_defaults=True):
    """One document's place, its relevance from 0 to 1, and the document where it was to be returned."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class CohereRanking(msgspec.Struct):
    """The reply of /v1/rerank and /v2/rerank: documents by falling relevance."""

    id: str
    results: list[CohereRanked]
    meta: CohereMeta


class CohereTokenize(msgspec.Struct):
    """The body of POST /v1/tokenize: https://docs.cohere.com/reference/tokenize"""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)]
    model: Name


class CohereTokens(msgspec.Struct):
    """The reply of POST /v1/tokenize: no special tokens; ``token_strings`` as the vocabulary writes them."""

    tokens: list[int]
    token_strings: list[str]
    meta: CohereMeta


class CohereDetokenize(msgspec.Struct):
    """The body of POST /v1/detokenize: https://docs.cohere.com/reference/detokenize"""

    tokens: Annotated[list[int], msgspec.Meta(min_length=1, max_length=65_536)]
    model: Name


class CohereText(msgspec.Struct):
    """The reply of POST /v1/detokenize."""

    text: str
    meta: CohereMeta


class CohereKey(msgspec.Struct):
    """The reply of POST /v1/check-api-key: with a wrong key, the answer is 401."""

    valid: Literal[True]


class CohereError(msgspec.Struct):
    """Any reply that is no success: https://docs.cohere.com/reference/errors"""

    id: str
    message: str
    detail: str
    error: ErrorDetail


# -- embed ---------------------------------------------------------------------------------------------------------


def _read_v1(request: CohereEmbedV1, call: RequestContext) -> Encode:
    if request.texts is None and request.images is None:
        raise InputError("texts is missing: give a list of texts.", param="texts")
    kinds = tuple(dict.fromkeys(request.embedding_types or ()))
    return _encode(request, call, kinds or ("float",), {"version": "1", "by_type": bool(kinds)})


def _read_v2(request: CohereEmbed, call: RequestContext) -> Encode:
    given = [name for name in ("texts", "images", "inputs") if getattr(request, name) is not None]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "there is none"
        raise InputError(f"Exactly one of texts, images and inputs is needed, and {found}.", param="texts")
    kinds = tuple(dict.fromkeys(request.embedding_types or ("float",)))
    length = {} if request.max_tokens is None else {"max_length": request.max_tokens}
    size = {} if request.output_dimension is None else {"truncate_dim": request.output_dimension}
    return _encode(request, call, kinds, {"version": "2", "by_type": True}, **length, **size)


def _encode(
    request: CohereEmbedV1 | CohereEmbed,
    call: RequestContext,
    kinds: tuple[str, ...],
    reply: Mapping[str, Any],
    **wanted: Any,
) -> Encode:
    if request.images is not None or request.input_type == "image":
        which = "images" if request.images is not None else "input_type"
        raise InputError("Images cannot be embedded here: the models read text only. Send texts.", param=which)
    texts = request.texts
    if texts is None and isinstance(request, CohereEmbed):
        texts = [_joined(given, index) for index, given in enumerate(request.inputs or ())]
    return Encode(
        model=request.model,
        inputs=texts or [],
        wanted={"truncate": _TRUNCATE[request.truncate or "END"], **wanted},
        by_model=_by_model(request.input_type, kinds),
        reply={**reply, "id": call.request_id, "kinds": kinds},
    )


def _joined(given: CohereInput, index: int) -> str:
    parts = []
    for part in given.content:
        if part.type == "image_url" or part.text is None:
            what = "an image" if part.type == "image_url" else "a part of type text without text"
            raise InputError(f"inputs[{index}] holds {what}: the models read text only.", param="inputs")
        parts.append(part.text)
    if not parts:
        raise InputError(f"inputs[{index}] has no content: give at least one part of text.", param="inputs")
    return "\n".join(parts)


def _by_model(input_type: str | None, kinds: tuple[str, ...]) -> Callable[[Encoder], Mapping[str, Any]]:
    def choose(model: Encoder) -> Mapping[str, Any]:
        whole = sorted({"int8", "uint8"} & set(kinds))
        if whole and not model.recipe.normalized:
            raise InputError(
                f"{model.name} gives vectors that are not of unit length, for which {' and '.join(whole)} have no "
                "fixed scale. Ask for float, base64, binary or ubinary.",
                param="embedding_types",
            )
        return {} if input_type is None else _purpose(model, input_type)

    return choose


def _purpose(model: Encoder, input_type: str) -> dict[str, str]:
    """Return what a model has for an input type: a role's prompt, or a task or prompt of that name, or nothing."""
    role = _ROLES.get(input_type)
    # A folder may list the role's prompt and leave it empty, as sentence-transformers writes them.
    if role is not None and model.recipe.prompts.get(model.recipe.role_prompt(role) or ""):
        return {"role": role}
    known = {name.lower(): name for name in model.tasks}
    task = next((known[name] for name in _TASKS[input_type] if name in known), None)
    found = {"role": role, "task": task}
    return {name: value for name, value in found.items() if value is not None}


def _write(exchange: Encode) -> dict[str, Any]:
    reply, vectors = exchange.reply, exchange.vectors
    found = {kind: _typed(vectors, kind) for kind in reply["kinds"]}
    meta = _meta(reply["version"], exchange.dropped, input_tokens=exchange.tokens)
    if {"int8", "uint8"} & set(found):
        low, high = unit_ranges(vectors.dim)[:, 0].tolist()
        meta["embedding_range"] = [low, high]
    return {
        "response_type": "embeddings_by_type" if reply["by_type"] else "embeddings_floats",
        "id": reply["id"],
        "texts": list(exchange.inputs),
        "embeddings": found if reply["by_type"] else found["float"],
        "meta": meta,
    }


def _typed(vectors: Vectors, kind: str) -> list[Any]:
    """Return float32 rows in a type of the API; int8 and uint8 have the scale of all unit vectors of that size."""
    if kind == "base64":
        return [in_base64(row) for row in vectors.data]
    return list(np.ascontiguousarray(vectors.data if kind == "float" else quantize(vectors, kind).data))


def _meta(version: str, dropped: int = 0, **units: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"api_version": {"version": version}}
    if units:
        meta["billed_units"] = units
    if dropped:
        meta["warnings"] = [f"{dropped} tokens were cut off because inputs were too long."]
    return meta


# -- rerank --------------------------------------------------------------------------------------------------------


def is_rerank_request(call: RequestContext) -> bool:
    """Return whether a request is Cohere's: its clients say so in their headers, and two fields are its own."""
    headers = call.headers
    told = "cohere" in headers.get("x-fern-sdk-name", "").lower() or "request-source" in headers  # up to version 4
    return told or headers.get("user-agent", "").lower().startswith("cohere") or not _OWN.isdisjoint(call.fields)


def _read_rerank_v1(request: CohereRerankV1, call: RequestContext) -> Rank:
    fields = request.rank_fields or ["text"]
    texts = [_text(document, fields, index) for index, document in enumerate(request.documents)]
    sent = request.documents if request.return_documents else None
    return Rank(
        model=request.model,
        query=request.query,
        documents=texts,
        top_k=request.top_n,
        bounded=True,
        reply={"version": "1", "id": call.request_id, "documents": sent},
    )


def _read_rerank(request: CohereRerank, call: RequestContext) -> Rank:
    return Rank(
        model=request.model,
        query=request.query,
        documents=request.documents,
        top_k=request.top_n,
        longest=request.max_tokens_per_doc,
        bounded=True,
        reply={"version": "2", "id": call.request_id, "documents": None},
    )


def _text(document: str | dict[str, Any], fields: Sequence[str], index: int) -> str:
    if isinstance(document, str):
        return document
    found = [document[name] for name in fields if document.get(name) is not None]
    if not found:
        raise InputError(
            f"documents[{index}] has nothing to rank by: give it {' or '.join(map(repr, fields[:8]))}, or name others "
            "of its fields in rank_fields.",
            param="documents",
        )
    return "\n".join(value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in found)


def _write_rerank(exchange: Rank) -> dict[str, Any]:
    reply = exchange.reply
    places = [each.index for each in exchange.ranked]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": score} for index, score in zip(places, _relevance(exchange), strict=True)
    ]
    if reply["documents"] is not None:
        for result in results:
            document = reply["documents"][result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document
    meta = _meta(reply["version"], exchange.dropped, search_units=-(-exchange.size // _UNIT))
    return {"id": reply["id"], "results": results, "meta": meta}


def _relevance(exchange: Rank) -> list[Any]:
    """Return the scores between 0 and 1, their order kept.

    A cross-encoder's are its own where it has a sigmoid, else the sigmoid of its logits; those of a tanh become
    (1 + x) / 2. MaxSim is divided by the number of the query's vectors, which makes it a mean of cosines, and becomes
    (1 + mean) / 2; the sigmoid of the mean where the vectors are not of unit length.
    """
    # float32 is written in its shortest form; as Python floats, scores would have the digits of a double.
    scores = np.array([each.score for each in exchange.ranked], np.float32)
    if isinstance(exchange.served, Scorer):
        return list((1 + scores) / 2 if exchange.served.activation == "tanh" else scores)
    mean = scores / np.float32(max(1, exchange.summed))
    head = exchange.served.recipe.head("multivector") if exchange.served is not None else None
    unit = isinstance(head, Multivector) and bool(head.modules) and isinstance(head.modules[-1], Normalize)
    return list(np.clip((1 + mean) / 2, 0, 1) if unit else np.exp(-np.logaddexp(np.float32(0), -mean)))


# -- tokenize, and the rest ----------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class TokenizerFile(Tokenize):
    """A tokenizer as a file."""

    @property
    def numbers(self) -> int:
        """Its vocabulary, as a large one takes long to write."""
        return 0 if self.served is None else self.served.tokenizer.vocab_size


def _read_tokenize(request: CohereTokenize, _: RequestContext) -> Tokenize:
    return Tokenize(model=request.model, texts=[request.text])


def _write_tokenize(exchange: Tokenize) -> dict[str, Any]:
    found = _backend(exchange).encode(exchange.texts[0], add_special_tokens=False)
    return {"tokens": found.ids, "token_strings": found.tokens, "meta": _meta("1")}


def _read_detokenize(request: CohereDetokenize, _: RequestContext) -> Tokenize:
    return Tokenize(model=request.model, ids=[request.tokens])


def _write_detokenize(exchange: Tokenize) -> dict[str, Any]:
    ids, backend = exchange.ids[0], _backend(exchange)
    size = exchange.served.tokenizer.vocab_size if exchange.served is not None else 0
    wrong = next((number for number in ids if not 0 <= number < size), None)
    if wrong is not None:
        raise InputError(f"The token {wrong} is out of range: 0 to {size - 1} exist.", param="tokens")
    return {"text": backend.decode(list(ids)), "meta": _meta("1")}


def _read_file(_: None, call: RequestContext) -> TokenizerFile:
    return TokenizerFile(model=call.path["model"])


def _write_file(exchange: TokenizerFile) -> Reply:
    # Clients read it as text, and guess the encoding of what does not say it.
    return Reply(_backend(exchange).to_str().encode(), media_type="application/json; charset=utf-8")


def _backend(exchange: Tokenize) -> Any:
    if exchange.served is None:
        raise ValueError("an Exchange without a model cannot be written")
    return exchange.served.tokenizer.backend


def _check_key(_: None, __: RequestContext) -> dict[str, bool]:
    return {"valid": True}


_TEXT = "How tall is Mont Blanc?"
_EMBED = {
    "model": "all-MiniLM-L6-v2",
    "input_type": "search_query",
    "texts": [_TEXT],
    "embedding_types": ["float"],
}
_RERANK = {
    "model": "ms-marco-MiniLM-L6-v2",
    "query": _TEXT,
    "documents": ["Mont Blanc is 4806 m high.", "The Seine flows through Paris."],
    "top_n": 1,
}
_TOKENIZE = {"model": "all-MiniLM-L6-v2", "text": _TEXT}


class CohereDialect:
    """The dialect."""

    name = "cohere"
    error_type = CohereError
    routes = (
        Route(
            "/v1/embed",
            "Turn texts into vectors",
            _read_v1,
            _write,
            CohereEmbedV1,
            CohereFloats | CohereByType,
            example=_EMBED,
        ),
        Route("/v2/embed", "Turn texts into vectors", _read_v2, _write, CohereEmbed, CohereByType, example=_EMBED),
        Route(
            "/v1/rerank",
            "Rank documents by a query",
            _read_rerank_v1,
            _write_rerank,
            CohereRerankV1,
            CohereRanking,
            example=_RERANK,
            matches=is_rerank_request,
        ),
        Route(
            "/v2/rerank",
            "Rank documents by a query",
            _read_rerank,
            _write_rerank,
            CohereRerank,
            CohereRanking,
            example=_RERANK,
        ),
        Route(
            "/v1/tokenize",
            "Turn a text into tokens",
            _read_tokenize,
            _write_tokenize,
            CohereTokenize,
            CohereTokens,
            example=_TOKENIZE,
        ),
        Route(
            "/v1/detokenize",
            "Turn tokens into a text",
            _read_detokenize,
            _write_detokenize,
            CohereDetokenize,
            CohereText,
            example={"model": "all-MiniLM-L6-v2", "tokens": [2129, 4206]},
        ),
        Route("/v1/tokenizers/{model:path}", "Give a model's tokenizer.json", _read_file, _write_file, method="GET"),
        Route("/v1/check-api-key", "Say whether the key is known", _check_key, response_type=CohereKey),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Write an error as Cohere does, with the keys that other clients look for on the same paths."""
        param = getattr(error, "param", None)
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        body = shared_error_body(error, kind, _PARAMS.get(param, param) if param else None)
        return {"id": REQUEST_ID.get(), **body}
