"""TEI's gRPC methods: the HTTP route that does the same, and the conversion of messages to its body and reply.

Checks, defaults and kinds of error are those of ``dialects/tei``; differences are described in ``tei.proto``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from nearfield.errors import InputError
from nearfield.server.dialects.tei.responses import EmptyInput, iter_tokens
from nearfield.server.dialects.tei.routes import TeiDialect
from nearfield.server.exchange import CompositeExchange, Exchange, Rank
from nearfield.server.http.content_bounds import ContentBounds
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.routing import read_exchange
from nearfield.server.models.description import ModelDescription
from nearfield.server.rpc import tei_pb2 as pb
from nearfield.server.rpc.message_bounds import check_message

PACKAGE = "tei.v1"
SERVICES: Mapping[str, Any] = pb.DESCRIPTOR.services_by_name
#: The models that a service can use; services that are not listed can use any model.
FITS: Mapping[str, Callable[[ModelDescription], bool]] = {
    "Embed": lambda model: model.is_encoder,
    "Predict": lambda model: not model.is_encoder,
    "Rerank": Rank(query="", documents=[]).fits,
}
_ROUTES = {route.path: route for route in TeiDialect.routes}
_SIDES = {pb.TRUNCATION_DIRECTION_RIGHT: "right", pb.TRUNCATION_DIRECTION_LEFT: "left"}
_MODEL_TYPES = {
    "embedding": pb.MODEL_TYPE_EMBEDDING,
    "classifier": pb.MODEL_TYPE_CLASSIFIER,
    "reranker": pb.MODEL_TYPE_RERANKER,
}
_NANO = 1_000_000_000
_UINT32 = 2**32 - 1


@dataclass(frozen=True)
class Method:
    """One method: route, request type, and the conversions of its messages (``body``) and answers (``write``)."""

    path: str
    request_type: Any
    write: Callable[[Any], Any]
    body: Callable[[Any], dict[str, Any]]
    #: Whether a context has any number of messages, and whether each message has an answer or all have one.
    many: bool = False
    per_message: bool = True

    @property
    def route(self) -> Any:
        """The route of TEI's HTTP API."""
        return _ROUTES[self.path]

    def parse(self, data: bytes) -> Any:
        """Parse a message.

        Raises:
            InputError: it is not a message of this type.
        """
        try:
            return self.request_type.FromString(data)
        except DecodeError as error:
            raise InputError(f"The message is not a {PACKAGE}.{self.request_type.DESCRIPTOR.name}.") from error

    async def read(self, data: bytes, context: RequestContext) -> Any:
        """Convert a message to an exchange, or to the answer where no model is needed.

        Raises:
            InputError: the message is invalid.
        """
        if context.in_thread is None:
            return await self._read_body(self.body(self.parse(data)), context)
        return await self._read_body(await context.in_thread(lambda: self.body(self.parse(data))), context)

    def check(self, data: bytes, bounds: ContentBounds) -> None:
        """Check a message before it is parsed.

        Raises:
            TooLarge: it has too many values.
        """
        check_message(data, self.request_type.DESCRIPTOR, bounds)

    async def gather(self, messages: Sequence[Any], context: RequestContext) -> CompositeExchange:
        """Convert the messages of RerankStream to one exchange: texts of the same query are ranked together.

        Raises:
            InputError: there are none, or one is invalid.
        """
        if not messages:
            raise EmptyInput("`texts` cannot be empty")
        shared = {name: getattr(messages[0], name) for name in ("raw_scores", "return_text")}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, message in enumerate(messages):
            groups.setdefault((message.query, message.truncate, message.truncation_direction), []).append(place)
        parts = []
        for places in groups.values():
            body = _fields(messages[places[0]]) | shared | {"texts": [messages[place].text for place in places]}
            part = await self._read_body({name: value for name, value in body.items() if name != "text"}, context)
            parts.append(replace(part, reply_options={**part.reply_options, "places": places}))
        return CompositeExchange(
            parts=parts, reply_options={"characters": sum(part.reply_options["characters"] for part in parts)}
        )

    async def _read_body(self, body: dict[str, Any], context: RequestContext) -> Any:
        body = body if "model" not in context.query else {**body, "model": context.query["model"]}
        return await read_exchange(self.route, replace(context, body=body, fields=frozenset(body)))

    def answer(self, result: Any) -> bytes:
        """Encode a performed exchange, or the answer that ``read`` returned."""
        return self.write(result).SerializeToString()


# -- reading ---------------------------------------------------------------------------------------------------------


def _fields(message: Any) -> dict[str, Any]:
    """Return the fields of a message, without optional fields that were not sent."""
    present = (field for field in message.DESCRIPTOR.fields if not field.has_presence or message.HasField(field.name))
    body = {field.name: getattr(message, field.name) for field in present}
    side = body.get("truncation_direction")
    if side is not None:
        if side not in _SIDES:
            raise InputError(f"`truncation_direction` {side} is unknown: send 0 (right) or 1 (left).")
        body["truncation_direction"] = _SIDES[side]
    return body


def _lists(name: str) -> Callable[[Any], dict[str, Any]]:
    """Read a message whose field ``name`` is repeated."""
    return lambda message: {**_fields(message), name: list(getattr(message, name))}


def _pair(message: Any) -> dict[str, Any]:
    """Read a text or a pair of texts; any other number of texts is refused as a sequence that is not a pair."""
    texts = list(message.inputs)
    inputs: Any = texts[0] if len(texts) == 1 else texts if len(texts) == 2 else [texts]
    return {**_fields(message), "inputs": inputs}


def _query(_: Any) -> dict[str, Any]:
    return {}


# -- writing ---------------------------------------------------------------------------------------------------------


def _metadata(exchange: Exchange) -> Any:
    """Return the cost of an answer; stages of several parts are averaged, as in TEI."""
    parts = exchange.parts if isinstance(exchange, CompositeExchange) else (exchange,)

    def mean(stage: str) -> int:
        return round(sum(part.stage_seconds.get(stage, 0.0) for part in parts) / len(parts) * _NANO)

    return pb.Metadata(
        compute_chars=min(exchange.reply_options["characters"], _UINT32),
        compute_tokens=min(exchange.tokens, _UINT32),
        total_time_ns=round((time.perf_counter() - exchange.started) * _NANO),
        tokenization_time_ns=mean("tokenise"),
        queue_time_ns=mean("queue"),
        inference_time_ns=mean("run"),
    )


def _content(exchange: Exchange) -> Any:
    """Return the body that the route would reply."""
    return exchange.reply_options["body"](exchange)


def _vector(exchange: Any) -> Any:
    return pb.EmbedResponse(embeddings=_numbers(_content(exchange)[0]), metadata=_metadata(exchange))


def _sparse(exchange: Any) -> Any:
    values = [pb.SparseValue(index=value["index"], value=float(value["value"])) for value in _content(exchange)[0]]
    return pb.EmbedSparseResponse(sparse_embeddings=values, metadata=_metadata(exchange))


def _every(exchange: Any) -> Any:
    tokens = [pb.TokenEmbedding(embeddings=_numbers(row)) for row in _content(exchange)[0]]
    return pb.EmbedAllResponse(token_embeddings=tokens, metadata=_metadata(exchange))


def _labels(exchange: Any) -> Any:
    labels = [pb.Prediction(score=float(label["score"]), label=label["label"]) for label in _content(exchange)]
    return pb.PredictResponse(predictions=labels, metadata=_metadata(exchange))


def _ranks(exchange: Any) -> Any:
    return _ranking(exchange, _content(exchange))


def _merged(exchange: Any) -> Any:
    """Write the ranks of all parts as one; an index is the position in the stream."""
    ranks = [
        {**rank, "index": part.reply_options["places"][rank["index"]]}
        for part in exchange.parts
        for rank in _content(part)
    ]
    return _ranking(exchange, sorted(ranks, key=lambda rank: (-rank["score"], rank["index"])))


def _ranking(exchange: Any, ranks: Sequence[Any]) -> Any:
    rows = [pb.Rank(index=rank["index"], text=rank.get("text"), score=float(rank["score"])) for rank in ranks]
    return pb.RerankResponse(ranks=rows, metadata=_metadata(exchange))


def _tokens(exchange: Any) -> Any:
    (tokens,) = iter_tokens(exchange)
    return pb.EncodeResponse(tokens=[pb.SimpleToken(**token) for token in tokens])


def _text(exchange: Any) -> Any:
    return pb.DecodeResponse(text=_ROUTES["/decode"].write(exchange)[0])


def _info(info: Any) -> Any:
    (kind,) = info["model_type"]
    fields = {name: info[name] for name in pb.InfoResponse.DESCRIPTOR.fields_by_name if info.get(name) is not None}
    return pb.InfoResponse(**{**fields, "model_type": _MODEL_TYPES[kind]})


def _numbers(row: Any) -> list[float]:
    return np.asarray(row, np.float32).tolist()


# -- the methods -----------------------------------------------------------------------------------------------------

#: What each method does; its stream does the same to each message.
_KINDS: Mapping[str, tuple[str, Callable[[Any], Any], Callable[[Any], dict[str, Any]]]] = {
    "Info": ("/info", _info, _query),
    "Embed": ("/embed", _vector, _fields),
    "EmbedSparse": ("/embed_sparse", _sparse, _fields),
    "EmbedAll": ("/embed_all", _every, _fields),
    "Predict": ("/predict", _labels, _fields),
    "PredictPair": ("/predict", _labels, _pair),
    "Rerank": ("/rerank", _ranks, _lists("texts")),
    "RerankStream": ("/rerank", _merged, _fields),
    "Tokenize": ("/tokenize", _tokens, _fields),
    "Decode": ("/decode", _text, _lists("ids")),
}


def methods() -> dict[str, dict[str, Method]]:
    """Return the methods of each service, as ``tei.proto`` has them."""
    return {name: {method.name: _method(method) for method in service.methods} for name, service in SERVICES.items()}


def _method(descriptor: Any) -> Method:
    name = descriptor.name if descriptor.name in _KINDS else descriptor.name.removesuffix("Stream")
    path, write, body = _KINDS[name]
    request_type = getattr(pb, descriptor.input_type.name)
    per_message = descriptor.server_streaming == descriptor.client_streaming
    return Method(path, request_type, write, body, descriptor.client_streaming, per_message)
