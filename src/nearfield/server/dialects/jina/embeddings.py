"""Jina's embeddings API: request bodies to exchanges, and vectors to response bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nearfield.errors import InputError, nearest
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, JsonValue
from nearfield.server.dialects.jina.schemas import JinaContent, JinaEmbeddingRequest, JinaItem
from nearfield.server.dialects.schemas import to_base64, to_json_rows
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeLateChunks, EncodeOptions
from nearfield.server.exchange.content_parts import Content, join_parts
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.exchange.sound_inputs import sound_from_text
from nearfield.server.http.request_body import convert
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.outputs import Outputs

#: Fields that no other API on the same paths has.
JINA_FIELDS = frozenset(
    {"task", "embedding_type", "encoding_type", "late_chunking", "normalized", "return_multivector"}
)
#: Tasks with one kind of text: a model that was not trained for the task gets no prompt.
_SYMMETRIC_TASKS = ("text-matching", "classification", "separation", "clustering")
#: Suffixes of the other tasks, and their roles.
_TASK_ROLES = {".query": "query", ".passage": "document", ".document": "document"}


def is_embeddings_request(context: RequestContext) -> bool:
    """Return whether a body of /v1/embeddings is Jina's, by fields that only Jina has, or inputs that are objects."""
    if JINA_FIELDS & context.fields or isinstance(context.body.get("truncate"), bool):
        return True
    inputs = context.body.get("input")
    return isinstance(inputs, list) and dict in map(type, inputs)


def read_embeddings(request: JinaEmbeddingRequest, context: RequestContext) -> Encode:
    """Convert a request body to an exchange."""
    kind = request.embedding_type or request.encoding_type
    items = [request.input] if isinstance(request.input, str) else request.input
    inputs = [read_item(item, f"input {index}", context) for index, item in enumerate(items)]
    if request.return_multivector:
        return _read_multivector(request, inputs, kind)
    options: EncodeKeywords = {"precision": kind if kind in ("binary", "ubinary") else "float32"}
    if request.dimensions is not None:
        options["truncate_dim"] = request.dimensions
    if request.normalized:
        options["normalize_embeddings"] = True
    base64 = kind == "base64" or (kind is None and request.encoding_format == "base64")
    exchange: Encode
    if request.late_chunking:
        texts = [item for item in inputs if isinstance(item, str)]
        if len(texts) < len(inputs):
            raise InputError("late_chunking is for texts: send pictures and sounds without it.", param="late_chunking")
        exchange = EncodeLateChunks(model=request.model, inputs=[texts], options=EncodeOptions(**options))
    else:
        options["truncate"] = _truncation_policy(request)
        exchange = Encode(model=request.model, inputs=inputs, options=EncodeOptions(**options))
    exchange.options_for = _choose_task_options(request.task)
    exchange.reply_options = {"base64": base64}
    return exchange


def _read_multivector(request: JinaEmbeddingRequest, inputs: Sequence[Content], kind: str | None) -> Encode:
    if request.dimensions is not None or request.late_chunking:
        other = "late_chunking" if request.late_chunking else "dimensions"
        raise InputError(f"return_multivector cannot be combined with {other}: leave one of them out.", param=other)
    if kind not in (None, "float"):
        raise InputError(
            f"return_multivector returns numbers, not {kind!r}: leave embedding_type out.", param="embedding_type"
        )
    return Encode(
        model=request.model,
        inputs=inputs,
        options=EncodeOptions(outputs="multivector", truncate=_truncation_policy(request)),
        needs=("multivector",),
        options_for=_choose_task_options(request.task),
    )


def _truncation_policy(request: JinaEmbeddingRequest) -> str:
    return "report" if request.truncate else "error"


def _choose_task_options(task: str | None) -> Callable[[ModelDescription], EncodeKeywords] | None:
    """Return a function from the model to the encoder's options for the task; None without a task."""
    if task is None:
        return None

    def choose(model: ModelDescription) -> EncodeKeywords:
        # The role, too: a late-interaction model marks its queries by it.
        role = next((role for suffix, role in _TASK_ROLES.items() if task.endswith(suffix)), None)
        if task in model.tasks:
            return {"task": task} if role is None else {"task": task, "role": role}
        if role is not None:
            return {"role": role}
        if task not in _SYMMETRIC_TASKS:
            known = {*model.tasks, *_SYMMETRIC_TASKS, "retrieval.query", "retrieval.passage"}
            raise InputError(f"{model.name} has no task {task!r}. {nearest(task, known)}", param="task")
        return {"prompt": ""}

    return choose


def read_item(item: str | JinaItem, field: str, context: RequestContext) -> Content:
    """Return an input; a string is a text, whatever it looks like.

    Raises:
        InputError: it has no part, or one that no model here reads.
    """
    if isinstance(item, str):
        return item
    present = [name for name in item.__struct_fields__ if getattr(item, name) is not None]
    if len(present) > 1 and {"content", "pdf", "video"} & set(present):
        raise InputError(f"{field} has {' and '.join(present)}: send each in a separate input.", param="input")
    if present == ["content"]:
        return _read_content(item.content, field, context)
    if not present or present[0] in ("pdf", "video"):
        raise InputError(
            f"{field} {f'contains a {present[0]}' if present else 'has no text'}: send a string, "
            '{"text": "..."}, {"image": "..."} or {"audio": "..."}.',
            param="input",
        )
    return join_parts([_read_part(name, getattr(item, name), field, context) for name in present], field, "input")


def _read_part(name: str, value: object, field: str, context: RequestContext) -> str | Image | Audio:
    if name == "text":
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"{field}: {name} must be a string: a data URI or base64.", param="input")
    if name == "audio":
        return sound_from_text(value, context.sound_limits, field)
    return picture_from_text(value, context.picture_limits, field)


def _read_content(content: JsonValue, field: str, context: RequestContext) -> Content:
    """Return the one input that the parts of ``content`` make."""
    parts = convert({"content": content}, JinaContent).content
    if any(isinstance(part, JinaItem) and part.content is not None for part in parts):
        raise InputError(f"{field} has content within content.", param="input")
    read = [read_item(part, field, context) for part in parts]
    flat = [piece for part in read for piece in (part.parts if isinstance(part, MixedContent) else (part,))]
    return join_parts(flat, field, "input")


def write_embeddings(exchange: Encode) -> JsonObject:
    """Return the vectors, or those of the tokens, as numbers or base64."""
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": exchange.model, "object": "list", "usage": usage, "data": _embedding_objects(exchange)}


def _embedding_objects(exchange: Encode) -> list[JsonObject]:
    result = exchange.result
    if isinstance(result, Outputs) and result.multivector is not None:
        return [
            {"object": "embeddings", "index": index, "embeddings": rows}
            for index, rows in enumerate(result.multivector)
        ]
    vectors = exchange.vectors
    rows = [to_base64(row) for row in vectors.data] if exchange.reply_options["base64"] else to_json_rows(vectors)
    return [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
