"""Qdrant's inference hook: https://github.com/qdrant/qdrant/blob/master/src/common/inference/service.rs

With ``inference: {address: http://host/qdrant/infer}`` in its config, Qdrant itself sends texts of points and queries.

Texts that go into a collection are read as documents, those to search with as queries. Each is given the model's main
output, or the one that its ``options`` name: ``Document(text=..., model=..., options={"output": "sparse"})``.
Qdrant sends its ``token`` in the body: it is taken for an API key.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from nearfield.errors import InputError, NearfieldError
from nearfield.server.dialects import RequestContext, Route
from nearfield.server.dialects.schemas import Name, in_lists
from nearfield.server.exchange import CompositeExchange, Encode
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

_ROLES = {"update": "document", "search": "query"}
#: Options, and the encoder's keywords for them.
_WANTED = {
    "output": "outputs",
    "role": "role",
    "prompt_name": "prompt_name",
    "prompt": "prompt",
    "instruction": "instruction",
    "task": "task",
    "adapter": "adapter",
    "mrl": "truncate_dim",
    "normalize": "normalize_embeddings",
    "truncate": "truncate",
}
_FIELDS = {theirs: ours for ours, theirs in _WANTED.items()} | {"input": "inputs", "dimensions": "mrl"}


class QdrantOptions(msgspec.Struct):
    """What an input may ask beside its model.

    ``role`` overrules what the text is for; ``mrl`` is how many dimensions to keep, as Qdrant Cloud calls it.
    """

    output: Literal["dense", "sparse", "multivector"] | None = None
    role: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    prompt: str | None = None
    instruction: str | None = None
    task: Name | None = None
    adapter: Name | None = None
    mrl: int | None = None
    normalize: bool | None = None
    truncate: Literal["report", "error", "left", "right", "chunk"] | None = None


class QdrantInput(msgspec.Struct):
    """One input: text (``data_type`` image and object are known, and refused)."""

    data: Any
    model: Name
    data_type: str = "text"
    options: QdrantOptions | None = None


class QdrantRequest(msgspec.Struct):
    """The body of POST /qdrant/infer."""

    inputs: list[QdrantInput]
    inference: Literal["update", "search"] = "update"
    token: str | None = None


class QdrantSparse(msgspec.Struct):
    """A sparse vector."""

    indices: list[int]
    values: list[float]


class QdrantModelUsage(msgspec.Struct):
    """Tokens that a model read."""

    tokens: int


class QdrantUsage(msgspec.Struct):
    """Usage by model."""

    models: dict[str, QdrantModelUsage]


class QdrantReply(msgspec.Struct):
    """The reply of POST /qdrant/infer: a vector for each input, in order."""

    embeddings: list[list[float | list[float]] | QdrantSparse]
    usage: QdrantUsage


class QdrantError(msgspec.Struct):
    """Any reply that is no success."""

    error: str


def _read(request: QdrantRequest, call: RequestContext) -> CompositeExchange:
    if not request.inputs:
        raise InputError("inputs is empty: give at least one.", param="inputs")
    groups: dict[tuple[str, bytes], list[int]] = {}
    for index, item in enumerate(request.inputs):
        _check(index, item)
        groups.setdefault((item.model, msgspec.json.encode(item.options)), []).append(index)
    return CompositeExchange(
        parts=[_part(request, places) for places in groups.values()],
        reply={"count": len(request.inputs)},
        ignored=tuple(sorted(_unknown(call))),
    )


def _part(request: QdrantRequest, places: list[int]) -> Encode:
    """Return what is asked of one model in one way: its inputs run together."""
    first = request.inputs[places[0]]
    options = {_WANTED[name]: value for name, value in msgspec.structs.asdict(first.options or QdrantOptions()).items()}
    wanted = {"role": _ROLES[request.inference]} | {name: value for name, value in options.items() if value is not None}
    return Encode(
        model=first.model,
        inputs=[request.inputs[place].data for place in places],
        wanted=wanted,
        needs=(wanted["outputs"],) if "outputs" in wanted else (),
        reply={"places": places},
    )


def _check(index: int, item: QdrantInput) -> None:
    if item.data_type != "text" or not isinstance(item.data, str):
        kind = item.data_type if item.data_type != "text" else type(item.data).__name__
        raise InputError(
            f"Input {index} is {kind[:100]!r}; the models here read text: send 'data_type': 'text' and a string.",
            param="inputs",
        )


def _unknown(call: RequestContext) -> set[str]:
    """Name the options that nothing is done with."""
    known = {*_WANTED}
    options = [item.get("options") for item in call.body["inputs"]]
    return {f"options.{name}" for given in options if given for name in given.keys() - known}


def write(exchange: CompositeExchange) -> dict[str, Any]:
    """Write the vectors in the order of the inputs, and the tokens of each model."""
    rows: list[Any] = [None] * exchange.reply["count"]
    models: dict[str, dict[str, int]] = {}
    for part in exchange.parts:
        assert isinstance(part, Encode)
        assert part.model is not None
        for place, row in zip(part.reply["places"], _rows(part.result), strict=True):
            rows[place] = row
        usage = models.setdefault(part.model, {"tokens": 0})
        usage["tokens"] += part.tokens
    return {"embeddings": rows, "usage": {"models": models}}


def _rows(result: Any) -> list[Any]:
    found = next(iter(result.kinds.values())) if isinstance(result, Outputs) else result
    if isinstance(found, SparseVectors):
        return [{"indices": indices, "values": values} for indices, values in found]
    if isinstance(found, MultiVectors):
        return [np.ascontiguousarray(rows) for rows in found]
    return list(in_lists(found))


def _token(call: RequestContext) -> str | None:
    token = call.body.get("token")
    return token if isinstance(token, str) else None


_EXAMPLE = {
    "inputs": [{"data": "How tall is Mont Blanc?", "data_type": "text", "model": "all-MiniLM-L6-v2"}],
    "inference": "search",
}


class QdrantDialect:
    """The dialect."""

    name = "qdrant"
    error_type = QdrantError
    routes = (
        Route(
            "/qdrant/infer",
            "Turn what Qdrant sends into vectors",
            _read,
            write,
            QdrantRequest,
            QdrantReply,
            example=_EXAMPLE,
            body_key=_token,
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Say what was wrong, in the only field that there is: Qdrant shows it to whoever asked."""
        param = getattr(error, "param", None)
        where = _FIELDS.get(param, param) if param else None
        return {"error": str(error) if where is None or where in str(error) else f"{where}: {error}"}
