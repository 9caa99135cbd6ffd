"""TEI's gRPC methods: which route of its HTTP API does the same, and how messages become that route's body and reply.

Checks, defaults and kinds of error are those of ``dialects/tei.py``; what differs is said at ``tei.proto``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from nearfield.errors import InputError
from nearfield.server.dialects.tei.routes import Empty, TeiDialect, tokens_of
from nearfield.server.exchange import CompositeExchange, Exchange, Rank
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.routing import read_exchange
from nearfield.server.models.description import ModelDescription
from nearfield.server.rpc import tei_pb2 as pb

PACKAGE = "tei.v1"
SERVICES: Mapping[str, Any] = pb.DESCRIPTOR.services_by_name
#: What a model must be able to do for a service to have an answer; those that are not here only need a model.
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
    """One method: its route, and how it is written; ``body`` gives the route's body from a message."""

    path: str
    takes: Any
    write: Callable[[Any], Any]
    body: Callable[[Any], dict[str, Any]]
    #: Whether a call is any number of messages, and whether each of them has an answer or all have one.
    many: bool = False
    each: bool = True

    @property
    def route(self) -> Any:
        """The route of TEI's HTTP API."""
        return _ROUTES[self.path]

    def parse(self, data: bytes) -> Any:
        """Read a message.

        Raises:
            InputError: it is none, or of another kind.
        """
        try:
            return self.takes.FromString(data)
        except DecodeError as error:
            raise InputError(f"The message is no {PACKAGE}.{self.takes.DESCRIPTOR.name}.") from error

    async def read(self, data: bytes, call: RequestContext) -> Any:
        """Turn a message into an exchange, or into the answer where no model has work to do.

        Raises:
            InputError: it is none, or asks for what cannot be.
        """
        return await self._ask(self.body(self.parse(data)), call)

    async def gather(self, messages: Sequence[Any], call: RequestContext) -> CompositeExchange:
        """Turn the messages of RerankStream into one exchange: texts of the same query are ranked together.

        Raises:
            InputError: there are none, or one asks for what cannot be.
        """
        if not messages:
            raise Empty("`texts` cannot be empty")
        shared = {name: getattr(messages[0], name) for name in ("raw_scores", "return_text")}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, message in enumerate(messages):
            groups.setdefault((message.query, message.truncate, message.truncation_direction), []).append(place)
        parts = []
        for places in groups.values():
            body = _fields(messages[places[0]]) | shared | {"texts": [messages[place].text for place in places]}
            part = await self._ask({name: value for name, value in body.items() if name != "text"}, call)
            parts.append(replace(part, reply={**part.reply, "places": places}))
        return CompositeExchange(parts=parts, reply={"characters": sum(part.reply["characters"] for part in parts)})

    async def _ask(self, body: dict[str, Any], call: RequestContext) -> Any:
        body = body if "model" not in call.query else {**body, "model": call.query["model"]}
        return await read_exchange(self.route, replace(call, body=body, fields=frozenset(body)))

    def answer(self, answered: Any) -> bytes:
        """Write an answered exchange, or what ``read`` gave at once."""
        return self.write(answered).SerializeToString()


# -- reading ---------------------------------------------------------------------------------------------------------


def _fields(message: Any) -> dict[str, Any]:
    """Return all fields of a message but those that were left out where that can be told."""
    present = (field for field in message.DESCRIPTOR.fields if not field.has_presence or message.HasField(field.name))
    body = {field.name: getattr(message, field.name) for field in present}
    side = body.get("truncation_direction")
    if side is not None:
        if side not in _SIDES:
            raise InputError(f"`truncation_direction` {side} is none: send 0 (right) or 1 (left).")
        body["truncation_direction"] = _SIDES[side]
    return body


def _lists(name: str) -> Callable[[Any], dict[str, Any]]:
    """Read a message whose field ``name`` is repeated."""
    return lambda message: {**_fields(message), name: list(getattr(message, name))}


def _pair(message: Any) -> dict[str, Any]:
    """Read a text or a pair of texts; any other number of them is refused as a sequence that is no pair."""
    given = list(message.inputs)
    inputs: Any = given[0] if len(given) == 1 else given if len(given) == 2 else [given]
    return {**_fields(message), "inputs": inputs}


def _query(_: Any) -> dict[str, Any]:
    return {}


# -- writing ---------------------------------------------------------------------------------------------------------


def _metadata(exchange: Exchange) -> Any:
    """Say what an answer cost; stages of several parts are their mean, as TEI has it."""
    parts = exchange.parts if isinstance(exchange, CompositeExchange) else (exchange,)

    def mean(stage: str) -> int:
        return round(sum(part.seconds.get(stage, 0.0) for part in parts) / len(parts) * _NANO)

    return pb.Metadata(
        compute_chars=min(exchange.reply["characters"], _UINT32),
        compute_tokens=min(exchange.tokens, _UINT32),
        total_time_ns=round((time.perf_counter() - exchange.started) * _NANO),
        tokenization_time_ns=mean("tokenise"),
        queue_time_ns=mean("queue"),
        inference_time_ns=mean("run"),
    )


def _content(exchange: Exchange) -> Any:
    """Return what the route's body would be."""
    return exchange.reply["body"](exchange)


def _vector(exchange: Any) -> Any:
    return pb.EmbedResponse(embeddings=_numbers(_content(exchange)[0]), metadata=_metadata(exchange))


def _sparse(exchange: Any) -> Any:
    values = [pb.SparseValue(index=each["index"], value=float(each["value"])) for each in _content(exchange)[0]]
    return pb.EmbedSparseResponse(sparse_embeddings=values, metadata=_metadata(exchange))


def _every(exchange: Any) -> Any:
    tokens = [pb.TokenEmbedding(embeddings=_numbers(row)) for row in _content(exchange)[0]]
    return pb.EmbedAllResponse(token_embeddings=tokens, metadata=_metadata(exchange))


def _labels(exchange: Any) -> Any:
    labels = [pb.Prediction(score=float(each["score"]), label=each["label"]) for each in _content(exchange)]
    return pb.PredictResponse(predictions=labels, metadata=_metadata(exchange))


def _ranks(exchange: Any) -> Any:
    return _ranking(exchange, _content(exchange))


def _merged(exchange: Any) -> Any:
    """Write the ranks of all parts as one, the places being those of the stream."""
    found = [
        {**each, "index": part.reply["places"][each["index"]]} for part in exchange.parts for each in _content(part)
    ]
    return _ranking(exchange, sorted(found, key=lambda each: (-each["score"], each["index"])))


def _ranking(exchange: Any, found: Sequence[Any]) -> Any:
    ranks = [pb.Rank(index=each["index"], text=each.get("text"), score=float(each["score"])) for each in found]
    return pb.RerankResponse(ranks=ranks, metadata=_metadata(exchange))


def _tokens(exchange: Any) -> Any:
    (tokens,) = tokens_of(exchange)
    return pb.EncodeResponse(tokens=[pb.SimpleToken(**each) for each in tokens])


def _text(exchange: Any) -> Any:
    return pb.DecodeResponse(text=_ROUTES["/decode"].write(exchange)[0])


def _info(told: Any) -> Any:
    (kind,) = told["model_type"]
    given = {name: told[name] for name in pb.InfoResponse.DESCRIPTOR.fields_by_name if told.get(name) is not None}
    return pb.InfoResponse(**{**given, "model_type": _MODEL_TYPES[kind]})


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
    return {name: {each.name: _method(each) for each in service.methods} for name, service in SERVICES.items()}


def _method(told: Any) -> Method:
    name = told.name if told.name in _KINDS else told.name.removesuffix("Stream")
    path, write, body = _KINDS[name]
    takes = getattr(pb, told.input_type.name)
    return Method(path, takes, write, body, told.client_streaming, told.server_streaming == told.client_streaming)
