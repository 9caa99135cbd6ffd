"""Conversion of TEI's request bodies to exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nearfield.errors import Forbidden, InputError, ModelNotFound, WrongModel
from nearfield.server.dialects.tei.responses import (
    EmptyInput,
    write_labels,
    write_ranks,
    write_similarities,
    write_sparse,
    write_token_vectors,
    write_vectors,
)
from nearfield.server.dialects.tei.schemas import (
    Direction,
    Input,
    TeiAnyRequest,
    TeiDecodeRequest,
    TeiEmbedAllRequest,
    TeiEmbedRequest,
    TeiPredictRequest,
    TeiRerankRequest,
    TeiSimilarityRequest,
    TeiTokenizeRequest,
    TeiTruncation,
    TeiVertexRequest,
)
from nearfield.server.exchange import (
    CompositeExchange,
    Encode,
    EncodeKeywords,
    EncodeOptions,
    Exchange,
    Predict,
    Rank,
    RerankOptions,
    Tokenize,
)
from nearfield.server.http.request_body import convert
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription, ModelKind


@dataclass(kw_only=True)
class EncodeTokens(Encode):
    """Texts to the vectors of all their tokens.

    Only late-interaction models fit. Others do not return what comes before pooling, and the token vectors of bge-m3
    are different ones.
    """

    needs: tuple[str, ...] = ("multivector",)

    def fits(self, model: ModelDescription) -> bool:
        return super().fits(model) and model.outputs[0] == "multivector"

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(
            f"{model.name} returns no vectors of single tokens: serve a late-interaction model (ColBERT) for "
            "/embed_all, or use /embed for pooled vectors.",
            param="model",
        )


def read_embed(request: TeiEmbedRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /embed to an exchange."""
    options: EncodeKeywords = {"normalize_embeddings": request.normalize, "prompt_name": request.prompt_name}
    if request.dimensions is not None:
        options["truncate_dim"] = request.dimensions
    exchange = _create_encode(Encode, request, write_vectors, options)
    exchange.reply_options = {**exchange.reply_options, "unnormalized": not request.normalize}
    return _choose_model(exchange, context)


def read_embed_all(request: TeiEmbedAllRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /embed_all to an exchange."""
    options: EncodeKeywords = {"outputs": "multivector", "prompt_name": request.prompt_name}
    return _choose_model(_create_encode(EncodeTokens, request, write_token_vectors, options), context)


def read_embed_sparse(request: TeiEmbedAllRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /embed_sparse to an exchange."""
    exchange = _create_encode(Encode, request, write_sparse, {"outputs": "sparse", "prompt_name": request.prompt_name})
    exchange.needs = ("sparse",)
    return _choose_model(exchange, context)


def _create_encode(
    kind: type[Encode],
    request: TeiEmbedAllRequest,
    write: Callable[[Encode], object],
    options: EncodeKeywords,
) -> Encode:
    inputs = _list_inputs(request.inputs)
    options["truncate"] = _truncation_policy(request.truncate, request.truncation_direction)
    return kind(
        model=request.model,
        inputs=inputs,
        options=EncodeOptions(**options),
        reply_options={"body": write, "characters": sum(map(len, inputs))},
    )


def read_similarity(request: TeiSimilarityRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /similarity to an exchange."""
    sentences, parameters = request.inputs.sentences, request.parameters
    _require_nonempty(sentences, "inputs.sentences")
    texts = [request.inputs.source_sentence, *sentences]
    _require_nonempty(texts, "inputs")
    policy = _truncation_policy(parameters.truncate is not False, parameters.truncation_direction or "right")
    exchange = Encode(
        model=request.model,
        inputs=texts,
        options=EncodeOptions(truncate=policy, prompt_name=parameters.prompt_name),
        reply_options={"body": write_similarities, "characters": sum(map(len, texts))},
    )
    return _choose_model(exchange, context)


def read_rerank(request: TeiRerankRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /rerank to an exchange."""
    if not request.texts or not (request.query or all(request.texts)):
        raise EmptyInput("`texts` cannot be empty; with an empty `query`, none of the texts may be empty either.")
    activation = "identity" if request.raw_scores else "sigmoid"
    exchange = Rank(
        model=request.model,
        query=request.query,
        documents=request.texts,
        field_name="texts",
        options=RerankOptions(activation, _pair_truncation_policy(request)),
        reply_options={
            "body": write_ranks,
            "characters": len(request.query) * len(request.texts) + sum(map(len, request.texts)),
            "texts": request.return_text,
        },
    )
    return _choose_model(exchange, context, "reranker")


def read_predict(request: TeiPredictRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /predict to an exchange."""
    inputs, single = _list_sequences(request.inputs)
    activation = "identity" if request.raw_scores else None
    exchange = Predict(
        model=request.model,
        inputs=inputs,
        bounded=not request.raw_scores,
        options=RerankOptions(activation, _pair_truncation_policy(request)),
        reply_options={
            "body": write_labels,
            "characters": sum(len("".join(item)) for item in inputs),
            "single": single,
        },
    )
    return _choose_model(exchange, context, "classifier")


def read_tokenize(request: TeiTokenizeRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST /tokenize to an exchange."""
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    _require_nonempty(texts, "inputs")
    reply = {
        "special": request.add_special_tokens,
        "max_tokens": context.limits.tokens if context.limits is not None else None,
    }
    return Tokenize(model=request.model, texts=texts, prompt_name=request.prompt_name, reply_options=reply)


def read_decode(request: TeiDecodeRequest, _: RequestContext) -> Exchange:
    """Convert a body of POST /decode to an exchange."""
    lists = [item for item in request.ids if isinstance(item, list)]
    numbers = [item for item in request.ids if not isinstance(item, list)]
    if lists and numbers:
        raise InputError("`ids` mixes token ids and lists of them: send one list, or a list of lists.", param="ids")
    batch = lists or [numbers]
    _require_nonempty(batch, "ids")
    return Tokenize(model=request.model, ids=batch, reply_options={"skip_special": request.skip_special_tokens})


def read_any(_: TeiAnyRequest, context: RequestContext) -> Exchange:
    """Convert a body of POST / or /invocations to an exchange."""
    return _read_by_fields(context.body, context)


def read_vertex(request: TeiVertexRequest, context: RequestContext) -> Exchange:
    """Convert the bodies of POST /vertex to one exchange."""
    # A field with the value null counts as absent.
    bodies = [{name: value for name, value in instance.items() if value is not None} for instance in request.instances]
    return CompositeExchange(parts=[_read_by_fields(body, context) for body in bodies])


def _read_by_fields(body: Mapping[str, object], context: RequestContext) -> Exchange:
    """Return the exchange for the body's fields; with ``inputs`` only, the kind of the model decides."""
    if "texts" in body:
        return read_rerank(convert(body, TeiRerankRequest), context)
    if isinstance(body.get("inputs"), dict):
        return read_similarity(convert(body, TeiSimilarityRequest), context)
    model = _find_model(body.get("model"), context)
    body = body if model is None else {**body, "model": model.name}
    if model is not None and not model.is_encoder:
        return read_predict(convert(body, TeiPredictRequest), context)
    if model is not None and model.outputs[0] == "sparse":
        return read_embed_sparse(convert(body, TeiEmbedAllRequest), context)
    return read_embed(convert(body, TeiEmbedRequest), context)


def _find_model(name: object, context: RequestContext) -> ModelDescription | None:
    """Return the loaded model of a name, or the first one if the body names none."""
    if name is None:
        return next(iter(_usable_models(context)), None)
    try:
        return context.models.describe(name, context.allowed) if isinstance(name, str) else None
    except (ModelNotFound, Forbidden):
        return None  # it may be loaded for this request; otherwise the request is refused when it is performed


def _choose_model(exchange: Exchange, context: RequestContext, preferred: ModelKind | None = None) -> Exchange:
    """Set the model if the body names none: the first of the preferred kind that fits, or else the first that fits.

    Raises:
        WrongModel: no loaded model fits.
    """
    usable = _usable_models(context)
    if exchange.model is not None or not usable:
        return exchange
    fitting = [model for model in usable if exchange.fits(model)]
    if not fitting:
        raise WrongModel(str(exchange.misfit(usable[0])), param="model")
    exchange.model = next((model for model in fitting if model.kind == preferred), fitting[0]).name
    return exchange


def _usable_models(context: RequestContext) -> list[ModelDescription]:
    """Return the loaded models that the client may use."""
    return [model for model in context.models.descriptions if context.allowed(model.name)]


def _truncation_policy(truncate: bool, direction: Direction) -> str:
    if not truncate:
        return "error"
    return "left" if direction.lower() == "left" else "report"


def _pair_truncation_policy(request: TeiTruncation) -> str:
    """Return the truncation policy of pairs: from the end of the longer text, or none."""
    policy = _truncation_policy(request.truncate, request.truncation_direction)
    if policy == "left":
        raise InputError(
            f"`truncation_direction` {request.truncation_direction!r} applies to embeddings only. Classifiers and "
            "rerankers truncate at the end: leave the field out, or send `truncate` false to have nothing truncated.",
            param="truncation_direction",
        )
    return policy


def _list_inputs(value: Input) -> list[str | list[int]]:
    """Return a list of texts and lists of token ids: a list of integers alone is one input."""
    items = [value] if isinstance(value, str) else value
    numbers = [item for item in items if isinstance(item, int)]
    inputs = [item for item in items if not isinstance(item, int)]
    if numbers and inputs:
        raise InputError("`inputs` mixes token ids and other inputs: put the token ids into a list inside it.")
    inputs = [numbers] if numbers else inputs
    _require_nonempty(inputs, "inputs")
    return inputs


def _require_nonempty(items: Sequence[str | Sequence[object]], name: str) -> None:
    if not items:
        raise EmptyInput(f"`{name}` cannot be empty")
    empty = next((index for index, item in enumerate(items) if not item), None)
    if empty is not None:
        raise EmptyInput(f"`{name}` cannot be empty, and item {empty} is")


def _list_sequences(value: str | list[str | list[str]]) -> tuple[list[str | tuple[str, ...]], bool]:
    """Return texts and pairs of texts, and whether the value is a single one: a list of two texts is a pair."""
    single = isinstance(value, str) or any(isinstance(item, str) for item in value)
    items: Sequence[str | list[str]] = [value] if isinstance(value, str) else value
    batch: list[Sequence[str | list[str]]] = [items] if single else [*items]
    _require_nonempty(batch, "inputs")
    sequences: list[str | tuple[str, ...]] = []
    for item in batch:
        texts = tuple(text for text in item if isinstance(text, str))
        if len(item) > 2 or len(texts) < len(item):
            raise InputError(
                "`inputs` must be a text, a pair of texts [a, b], or a list of such in lists [[a], [a, b]]: send a "
                "list of texts as [[text], [text], ...].",
                param="inputs",
            )
        if not any(texts):
            raise EmptyInput("`inputs` cannot be empty")
        sequences.append(texts[0] if len(texts) == 1 else texts)
    return sequences, single
