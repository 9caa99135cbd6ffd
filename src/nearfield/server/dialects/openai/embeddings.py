"""OpenAI's embeddings API: request bodies to exchanges, and vectors to response bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from nearfield.errors import InputError, ModelNotFound
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.openai import cl100k
from nearfield.server.dialects.openai.schemas import OpenAiEmbeddingRequest
from nearfield.server.dialects.schemas import list_inputs, to_base64, to_json_rows
from nearfield.server.exchange import Encode, EncodeOptions
from nearfield.server.exchange.picture_inputs import pictures_from_texts
from nearfield.server.exchange.sound_inputs import sounds_from_texts
from nearfield.server.http.request_context import RequestContext

#: The name that the pages of Text Embeddings Inference (TEI) use in examples; a TEI server has one model, and ignores
#: names. Here it stands for the first model that fits, unless a model has that name.
_TEI_PLACEHOLDER = "text-embeddings-inference"
#: Token ids in a request from which on they are decoded to text in a thread.
_THREAD_TOKENS = 20_000


def read_embeddings(request: OpenAiEmbeddingRequest, context: RequestContext) -> Encode | Awaitable[Encode]:
    """Convert a request body to an exchange; many token ids are decoded in a thread."""
    if request.modality == "image":
        return _create_encode(request, pictures_from_texts(_texts_of(request), context.picture_limits), context)
    if request.modality == "audio":
        return _create_encode(request, sounds_from_texts(_texts_of(request), context.sound_limits), context)
    inputs = list_inputs(request.input)
    if sum(len(item) for item in inputs if not isinstance(item, str)) > _THREAD_TOKENS:
        return _read_in_thread(request, inputs, context)
    return _create_encode(request, resolve_token_ids(inputs, context.token_ids), context)


async def _read_in_thread(
    request: OpenAiEmbeddingRequest, inputs: Sequence[str | list[int]], context: RequestContext
) -> Encode:
    texts = await asyncio.to_thread(resolve_token_ids, inputs, context.token_ids)
    return _create_encode(request, texts, context)


def _texts_of(request: OpenAiEmbeddingRequest) -> list[str]:
    """Return the texts that hold pictures or sounds."""
    inputs = request.input
    texts = [inputs] if isinstance(inputs, str) else [item for item in inputs if isinstance(item, str)]
    if not isinstance(inputs, str) and len(texts) < len(inputs):
        problem = f"input has token ids, and its modality is {request.modality}: send data URIs or base64."
        raise InputError(problem, param="input")
    return texts


def _create_encode(
    request: OpenAiEmbeddingRequest, inputs: Sequence[str | list[int] | Image | Audio], context: RequestContext
) -> Encode:
    options = EncodeOptions(
        # Infinity's client sends 0 for all dimensions.
        truncate_dim=None if request.modality and request.dimensions == 0 else request.dimensions,
        role=request.input_type,
        prompt_name=request.prompt_name,
        instruction=request.instruction,
        truncate=request.truncate or "report",
        precision=request.embedding_dtype or "float32",
    )
    return Encode(
        model=resolve_name(request.model, context),
        inputs=inputs,
        options=options,
        reply_options={"base64": request.encoding_format == "base64"},
    )


def resolve_name(name: str, context: RequestContext) -> str | None:
    """Return the name of the model; None for TEI's placeholder, unless a model has that name."""
    if name != _TEI_PLACEHOLDER:
        return name
    try:
        return context.models.entry(name).name
    except ModelNotFound:
        return None


def resolve_token_ids(inputs: Sequence[str | list[int]], token_ids: str) -> Sequence[str | list[int]]:
    """Decode token ids of cl100k_base to text, which LangChain's client sends for any model.

    With the setting ``token_ids`` at ``native``, they are the model's own and returned unchanged.

    Raises:
        InputError: an id is not in the table, or the setting is ``reject``.
    """
    if token_ids == "native" or all(isinstance(item, str) for item in inputs):
        return inputs
    if token_ids == "reject":
        raise InputError(
            "This server accepts no token ids: send texts (LangChain: check_embedding_ctx_length=False).", param="input"
        )
    return [item if isinstance(item, str) or not item else cl100k.decode(item) for item in inputs]


def write_embeddings(exchange: Encode) -> JsonObject:
    """Return the list of vectors, as numbers or base64."""
    vectors = exchange.vectors
    rows = [to_base64(row) for row in vectors.data] if exchange.reply_options["base64"] else to_json_rows(vectors)
    usage = {"prompt_tokens": exchange.tokens, "total_tokens": exchange.tokens}
    if exchange.dropped:
        usage["truncated_tokens"] = exchange.dropped
    reply: JsonObject = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": exchange.description.name if exchange.model is None and exchange.description else exchange.model,
        "usage": usage,
    }
    if vectors.ranges is not None:
        reply["embedding_range"] = [float(vectors.ranges[0].min()), float(vectors.ranges[1].max())]
    return reply
