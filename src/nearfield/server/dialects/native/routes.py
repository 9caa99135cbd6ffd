"""Nearfield's own API, for all that the engine can do: vectors of several kinds in one pass, ranks, labels.

The paths are ``/encode``, ``/rank`` and ``/classify``; docs/guides/encode.md has examples. A body is JSON or
msgpack. What Accept names is the form of the reply:

- ``application/json`` (default): each input's vectors as lists, or with ``"encoding": "base64"`` each array as base64
  of its bytes, little-endian: a dense vector, a sparse vector's indices (int32) and values, a multi-vector row by row.
- ``application/msgpack``: the same names, but all inputs' numbers in one array: a map of ``dtype`` (as numpy writes
  it: ``<f4``, ``|i1``), ``shape`` and ``data`` (bytes, little-endian). Sparse has ``indices`` and ``values``,
  multivector ``data`` [tokens, dimensions], each of all inputs one after another; ``lengths`` says how many belong to
  each.
- ``application/vnd.apache.arrow.stream`` (``/encode`` only): a record batch with the columns ``vector``, ``tokens`` and
  ``dropped``, for many dense vectors; the schema's metadata has ``model``, ``fingerprint``, ``dtype``, ``dimensions``.

A refusal is always JSON.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError, NotAcceptable
from nearfield.server.dialects import JSON, MSGPACK, Reply, RequestContext, Route, shared_error_body
from nearfield.server.dialects.schemas import Dtype, ErrorReply, Name, in_base64, in_lists, inputs
from nearfield.server.exchange import Bounds, Encode, EncodeLateChunks, Predict, Rank
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

ARROW = "application/vnd.apache.arrow.stream"
Kind = Literal["dense", "sparse", "multivector"]
Activation = Literal["identity", "sigmoid", "softmax", "tanh"]
#: What Accept may name, and the form that it stands for.
_FORMS = {
    "*/*": JSON,
    "application/*": JSON,
    JSON: JSON,
    MSGPACK: MSGPACK,
    "application/x-msgpack": MSGPACK,
    ARROW: ARROW,
}
#: Our fields, and the encoder's keywords for them.
_WANTED = {
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "adapter": "adapter",
    "dimensions": "truncate_dim",
    "force_dimensions": "force_truncate_dim",
    "normalize": "normalize_embeddings",
    "dtype": "precision",
    "truncate": "truncate",
}
_FIELDS = {theirs: ours for ours, theirs in _WANTED.items()} | {"inputs": "input"}


class NativeEncodeRequest(msgspec.Struct):
    """The body of POST /encode: ``input``, or ``documents`` (lists of consecutive chunks) for late chunking.

    ``model`` may be left out: the first model that gives the ``outputs`` answers. ``outputs`` left out: the model's
    main one. ``dimensions`` a model was not trained for need ``force_dimensions``.
    """

    model: Name | None = None
    input: str | list[str | int | list[int]] | None = None
    documents: list[list[str]] | None = None
    outputs: Kind | list[Kind] | None = None
    role: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    prompt: str | None = None
    instruction: str | None = None
    task: Name | None = None
    adapter: Name | None = None
    dimensions: int | None = None
    force_dimensions: bool = False
    normalize: bool | None = None
    dtype: Dtype = "float32"
    truncate: Literal["report", "error", "left", "right", "chunk"] | None = None
    encoding: Literal["list", "base64"] = "list"


class NativeUsage(msgspec.Struct):
    """Tokens read and cut off, of all inputs."""

    tokens: int
    dropped: int


class NativeDense(msgspec.Struct, omit_defaults=True):
    """Dense vectors; ``ranges`` are the smallest and the largest values that int8 and uint8 stand for."""

    dtype: Dtype
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    data: list[list[float] | str]
    ranges: tuple[list[float], list[float]] | None = None
    #: Values outside of the ranges.
    clipped: int = 0


class NativeSparseRow(msgspec.Struct):
    """One sparse vector."""

    indices: list[int] | str
    values: list[float] | str


class NativeSparse(msgspec.Struct):
    """Sparse vectors; ``dimensions`` is the vocabulary's size."""

    dtype: Literal["float32"]
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    data: list[NativeSparseRow]


class NativeMultivector(msgspec.Struct):
    """A vector for each token that counts; ``shape`` is that of all of them together.

    ``average``: a score is the mean over the query's vectors, not their sum.
    """

    dtype: Literal["float32"]
    dimensions: int
    shape: tuple[int, int]
    fingerprint: str
    average: bool
    data: list[list[list[float]] | str]


class NativeEncodeReply(msgspec.Struct, omit_defaults=True):
    """The reply of POST /encode: what was asked for, and for each row the tokens read and those cut off."""

    model: str
    usage: NativeUsage
    tokens: list[int]
    dropped: list[int]
    dense: NativeDense | None = None
    sparse: NativeSparse | None = None
    multivector: NativeMultivector | None = None
    #: Rows of each document, where these were given.
    documents: list[int] | None = None


class NativeRankRequest(msgspec.Struct):
    """The body of POST /rank; ``activation`` overrules the model's own."""

    query: str
    documents: list[str]
    model: Name | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    activation: Activation | None = None
    adapter: Name | None = None
    truncate: Literal["report", "error"] | None = None
    return_documents: bool = False


class NativeRanked(msgspec.Struct, omit_defaults=True):
    """One document's place: its index in what was given, and its score."""

    index: int
    score: float
    document: str | None = None


class NativeRankReply(msgspec.Struct):
    """The reply of POST /rank: documents by falling score; tokens are counted in the order of the request."""

    model: str
    usage: NativeUsage
    results: list[NativeRanked]
    tokens: list[int]
    dropped: list[int]


class NativeClassifyRequest(msgspec.Struct):
    """The body of POST /classify: a text, texts, or pairs of texts; ``activation`` overrules the model's own."""

    input: str | list[str | tuple[str, str]]
    model: Name | None = None
    activation: Activation | None = None
    adapter: Name | None = None
    truncate: Literal["report", "error"] | None = None


class NativeLabel(msgspec.Struct):
    """The likeliest label of an input, and its score."""

    label: str
    score: float


class NativeClassifyReply(msgspec.Struct):
    """The reply of POST /classify: ``scores`` has a row an input, a column for each of ``labels``."""

    model: str
    usage: NativeUsage
    labels: list[str]
    results: list[NativeLabel]
    scores: list[list[float]]
    tokens: list[int]
    dropped: list[int]


class _Rank(Rank):
    async def run(self, model: Any, bounds: Bounds) -> None:
        """Refuse what MaxSim has no use for, where a late-interaction model answers."""
        odd = next((name for name in ("activation", "adapter") if name in self.wanted), None)
        if odd is not None and isinstance(model, Encoder):
            raise InputError(f"{odd} does not apply to {model.name}: it ranks by late interaction.", param=odd)
        await super().run(model, bounds)


# -- what is asked -------------------------------------------------------------------------------------------------


def _encode(request: NativeEncodeRequest, call: RequestContext) -> Encode:
    form = _form(call, (JSON, MSGPACK, ARROW))
    if (request.input is None) == (request.documents is None):
        raise InputError("Give input, or documents for late chunking: one of the two.", param="input")
    kinds = [request.outputs] if isinstance(request.outputs, str) else request.outputs
    if form == ARROW and kinds not in (None, ["dense"]):
        raise InputError(
            f"An Arrow stream holds dense vectors alone: ask for 'outputs': ['dense'], or for {MSGPACK}.",
            param="outputs",
        )
    wanted = {theirs: getattr(request, ours) for ours, theirs in _WANTED.items()}
    asked: dict[str, Any] = {
        "model": request.model,
        "wanted": {name: value for name, value in wanted.items() if value is not None},
        "needs": ("dense",) if form == ARROW else tuple(kinds or ()),
        "reply": {"form": form, "base64": request.encoding == "base64"},
    }
    if request.input is None:
        return _late(request, kinds, asked)
    if kinds not in (None, ["dense"]):
        asked["wanted"]["outputs"] = kinds
    return Encode(inputs=inputs(request.input), **asked)


def _late(request: NativeEncodeRequest, kinds: list[Kind] | None, asked: dict[str, Any]) -> EncodeLateChunks:
    documents = request.documents or []
    if kinds not in (None, ["dense"]):
        raise InputError("Late chunking pools dense vectors: leave outputs out, or ask for ['dense'].", param="outputs")
    if request.truncate not in (None, "error"):
        raise InputError(
            "Late chunking reads whole documents, and one that is too long is refused: leave truncate out.",
            param="truncate",
        )
    empty = next((index for index, chunks in enumerate(documents) if not chunks), None)
    if empty is not None or not documents:
        raise InputError(
            "documents is empty." if empty is None else f"Document {empty} has no chunks: give at least one text.",
            param="documents",
        )
    return EncodeLateChunks(inputs=documents, **{**asked, "needs": ("dense",)})


def _rank(request: NativeRankRequest, call: RequestContext) -> Rank:
    return _Rank(
        model=request.model,
        query=request.query,
        documents=request.documents,
        top_k=request.top_k,
        wanted=_given(request),
        reply={"form": _form(call, (JSON, MSGPACK)), "documents": request.return_documents},
    )


def _classify(request: NativeClassifyRequest, call: RequestContext) -> Predict:
    return Predict(
        model=request.model,
        inputs=[request.input] if isinstance(request.input, str) else request.input,
        wanted=_given(request),
        reply={"form": _form(call, (JSON, MSGPACK))},
    )


def _given(request: NativeRankRequest | NativeClassifyRequest) -> dict[str, Any]:
    wanted = {name: getattr(request, name) for name in ("activation", "adapter", "truncate")}
    return {name: value for name, value in wanted.items() if value is not None}


def _form(call: RequestContext, known: tuple[str, ...]) -> str:
    """Return the form of the reply that Accept likes best; JSON where it says nothing.

    Raises:
        NotAcceptable: it names none that there is.
    """
    named = [_preferred(part) for part in call.headers.get("accept", "").lower().split(",") if part.strip()]
    if not named:
        return JSON
    forms = [_FORMS.get(name) for weight, name in sorted(named, key=lambda each: -each[0]) if weight > 0]
    possible = [form for form in forms if form in known]
    if ARROW in possible and find_spec("pyarrow") is None:
        possible = [form for form in possible if form != ARROW]
        if not possible:
            raise NotAcceptable("Arrow streams need pyarrow, which is not installed: pip install 'nearfield[parquet]'.")
    if not possible:
        raise NotAcceptable(f"Accept names none of the forms there are: {', '.join(known)}.")
    return str(possible[0])


def _preferred(part: str) -> tuple[float, str]:
    """Read one part of Accept: its weight (RFC 9110, 12.4.2), and what it names."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return float(weight), name
    except ValueError:
        return 1.0, name


# -- what is answered ----------------------------------------------------------------------------------------------


def _write_vectors(exchange: Encode) -> Any:
    form = exchange.reply["form"]
    if form == ARROW:
        return Reply(_stream(exchange), media_type=ARROW)
    result: Any = exchange.result
    kinds = result.kinds if isinstance(result, Outputs) else {_NAMES[type(result)]: result}
    body = _facts(exchange, result)
    for name, found in kinds.items():
        head = {"dtype": getattr(found, "precision", "float32"), **_shape(found), "fingerprint": found.fingerprint}
        body[name] = head | (_arrays(found) if form == MSGPACK else _rows(found, exchange.reply["base64"]))
    if isinstance(exchange, EncodeLateChunks):
        body["documents"] = [len(chunks) for chunks in exchange.inputs]
    return _told(form, body)


def _write_ranks(exchange: Rank) -> Any:
    results: list[dict[str, Any]] = [{"index": place.index, "score": place.score} for place in exchange.ranked]
    if exchange.reply["documents"]:
        results = [{**place, "document": exchange.documents[place["index"]]} for place in results]
    return _told(exchange.reply["form"], {**_facts(exchange, exchange.scores), "results": results})


def _write_labels(exchange: Predict) -> Any:
    assert exchange.scores is not None
    form, served = exchange.reply["form"], exchange.served
    data = np.ascontiguousarray(exchange.scores.data)
    body = {
        **_facts(exchange, exchange.scores),
        "labels": list(getattr(served, "labels", ())),
        "results": [{"label": found.label, "score": found.score} for found in exchange.predictions],
        "scores": data.tolist() if form == MSGPACK else list(data),
    }
    return _told(form, body)


def _facts(exchange: Encode | Rank | Predict, counted: Any) -> dict[str, Any]:
    """Return what every reply says: who answered, and the tokens of each input."""
    return {
        "model": exchange.served.name if exchange.served is not None else exchange.model,
        "usage": {"tokens": exchange.tokens, "dropped": exchange.dropped},
        "tokens": counted.tokens.tolist(),
        "dropped": counted.dropped.tolist(),
    }


def _told(form: str, body: dict[str, Any]) -> Any:
    return Reply(msgspec.msgpack.encode(body), media_type=MSGPACK) if form == MSGPACK else body


_NAMES = {Vectors: "dense", SparseVectors: "sparse", MultiVectors: "multivector"}


def _shape(found: Vectors | SparseVectors | MultiVectors) -> dict[str, Any]:
    if isinstance(found, SparseVectors):
        return {"dimensions": found.size, "shape": [len(found), found.size]}
    more = {"average": found.average} if isinstance(found, MultiVectors) else {}
    return {"dimensions": found.dim, "shape": list(found.data.shape), **more}


def _rows(found: Vectors | SparseVectors | MultiVectors, coded: bool) -> dict[str, Any]:
    """Return an entry for each input, as JSON has them."""
    if isinstance(found, SparseVectors):
        pairs = [(in_base64(ids), in_base64(values)) for ids, values in found] if coded else found
        return {"data": [{"indices": ids, "values": values} for ids, values in pairs]}
    if isinstance(found, MultiVectors):
        return {"data": [in_base64(rows) if coded else np.ascontiguousarray(rows) for rows in found]}
    told: dict[str, Any] = {"data": [in_base64(row) for row in found.data] if coded else list(in_lists(found))}
    return told | ({} if found.ranges is None else {"ranges": list(found.ranges), "clipped": found.clipped})


def _arrays(found: Vectors | SparseVectors | MultiVectors) -> dict[str, Any]:
    """Return the numbers of all inputs as arrays, as msgpack has them."""
    if isinstance(found, Vectors):
        told = {"data": _array(found.data)}
        return told | ({} if found.ranges is None else {"ranges": _array(found.ranges), "clipped": found.clipped})
    told = {"lengths": _array(np.diff(found.indptr))}
    if isinstance(found, SparseVectors):
        return told | {"indices": _array(found.indices), "values": _array(found.values)}
    return told | {"data": _array(found.data)}


def _array(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return {"dtype": plain.dtype.str, "shape": list(plain.shape), "data": plain.tobytes()}


def _stream(exchange: Encode) -> bytes:
    """Write dense vectors as an Arrow IPC stream: https://arrow.apache.org/docs/format/Columnar.html"""
    import pyarrow as arrow

    vectors = exchange.vectors
    data = np.ascontiguousarray(vectors.data)
    columns = {
        "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(data.reshape(-1)), data.shape[1]),
        "tokens": arrow.array(vectors.tokens),
        "dropped": arrow.array(vectors.dropped),
    }
    if isinstance(exchange, EncodeLateChunks):
        columns["document"] = arrow.array(np.repeat(np.arange(len(exchange.inputs)), list(map(len, exchange.inputs))))
    facts = {
        "model": exchange.served.name if exchange.served is not None else "",
        "fingerprint": vectors.fingerprint,
        "dtype": vectors.precision,
        "dimensions": str(vectors.dim),
    }
    if vectors.ranges is not None:
        facts |= {"ranges": json.dumps(vectors.ranges.tolist()), "clipped": str(vectors.clipped)}
    batch = arrow.record_batch(columns).replace_schema_metadata(facts)
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


_EXAMPLE = {"input": ["How tall is Mont Blanc?"], "outputs": ["dense"], "role": "query"}
_BOTH = (JSON, MSGPACK)


class NativeDialect:
    """The dialect."""

    name = "native"
    error_type = ErrorReply
    routes = (
        Route(
            "/encode",
            "Turn texts into vectors of any kind",
            _encode,
            _write_vectors,
            NativeEncodeRequest,
            NativeEncodeReply,
            example=_EXAMPLE,
            request_media=_BOTH,
            response_media=(JSON, MSGPACK, ARROW),
        ),
        Route(
            "/rank",
            "Rank documents for a query",
            _rank,
            _write_ranks,
            NativeRankRequest,
            NativeRankReply,
            example={"query": "How tall is Mont Blanc?", "documents": ["It is 4806 m tall.", "It lies in the Alps."]},
            request_media=_BOTH,
            response_media=_BOTH,
        ),
        Route(
            "/classify",
            "Give texts, or pairs of texts, a label",
            _classify,
            _write_labels,
            NativeClassifyRequest,
            NativeClassifyReply,
            example={"input": ["What a fine day!"]},
            request_media=_BOTH,
            response_media=_BOTH,
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        kinds = {429: "rate_limit_error"}
        kind = kinds.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
        param = getattr(error, "param", None)
        return shared_error_body(error, kind, _FIELDS.get(param, param) if param else None)
