"""Conversion of SIE's request bodies to exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects.sie.schemas import (
    SieEncodeRequest,
    SieItem,
    SieOptions,
    SieParams,
    SieScoreRequest,
    SieSound,
)
from nearfield.server.exchange import Encode, EncodeOptions, Rank, RerankOptions
from nearfield.server.exchange.content_parts import Content, join_parts
from nearfield.server.exchange.picture_inputs import picture_from_value
from nearfield.server.exchange.sound_inputs import sound_from_value
from nearfield.server.exchange.video_inputs import video_from_value
from nearfield.server.http.request_body import JSON, MSGPACK, convert
from nearfield.server.http.request_context import RequestContext

#: Options that cannot be changed here: ignoring them would return different numbers.
_REFUSED_OPTIONS = (
    "muvera",
    "smve",
    "pooling",
    "query_template",
    "doc_template",
    "default_instruction",
    "score_weights",
)
_KNOWN_OPTIONS = (
    "profile",
    "is_query",
    "normalize",
    "lora_id",
    "overflow_policy",
    "instruction",
    "output_types",
    "output_dtype",
)
#: Fields of media, and why they are not read.
_HINTS = {
    "images": "rerankers read text",
    "audio": "rerankers read text",
    "video": "rerankers read text",
    "document": "no model here reads documents",
}
_OVERFLOW_POLICIES = {"default": "report", "truncate_text": "report", "error": "error"}


def read_encode(request: SieEncodeRequest, context: RequestContext) -> Encode:
    """Convert a body of POST /v1/encode/{model} to an exchange."""
    params = request.params or SieParams()
    options = params.options or SieOptions()
    body_options = (context.body.get("params") or {}).get("options") or {}
    _check_options(options, body_options)
    kinds = options.output_types or params.output_types or ["dense"]
    dtype = params.output_dtype or options.output_dtype or "float32"
    # SIE packs unsigned bits under both names.
    precision = "ubinary" if dtype == "binary" else dtype
    encode_options = EncodeOptions(
        outputs=kinds,
        role="query" if options.is_query else "document",
        instruction=params.instruction if params.instruction is not None else options.instruction,
        normalize_embeddings=options.normalize,
        adapter=options.lora_id,
        # Sparse vectors and multi-vectors become float16 when the response is written.
        precision=precision if "dense" in kinds or dtype != "float16" else "float32",
        truncate=_OVERFLOW_POLICIES[options.overflow_policy or "default"],
    )
    return Encode(
        model=model_name(context),
        inputs=_read_items(request.items, context),
        input_field="items",
        options=encode_options,
        needs=tuple(kinds),
        reply_options={
            "msgpack": _wants_msgpack(context),
            "float16": dtype == "float16",
            "ids": [item.id for item in request.items],
        },
        ignored=_unknown_options(body_options, "params.options"),
    )


def read_score(request: SieScoreRequest, context: RequestContext) -> Rank:
    """Convert a body of POST /v1/score/{model} to an exchange."""
    options = request.options or SieOptions()
    body_options = context.body.get("options") or {}
    _check_options(options, body_options)
    if request.instruction is not None or options.instruction is not None:
        raise InputError(
            "A model's instruction is set when it is loaded: requests cannot change it.", param="instruction"
        )
    if options.score_mode not in (None, "colbert"):
        raise InputError(
            f"score_mode {options.score_mode[:100]!r} is not supported here: multi-vector models score by late "
            "interaction ('colbert').",
            param="score_mode",
        )
    policy = _OVERFLOW_POLICIES[options.overflow_policy or "default"]
    return Rank(
        model=model_name(context),
        query=_read_texts([request.query], "query")[0],
        documents=_read_texts(request.items, "items"),
        options=RerankOptions(truncate=policy, adapter=options.lora_id),
        field_name="items",
        reply_options={
            "msgpack": _wants_msgpack(context),
            "query": request.query.id,
            "ids": [f"item-{index}" if item.id is None else item.id for index, item in enumerate(request.items)],
        },
        ignored=_unknown_options(body_options, "options", "score_mode"),
    )


def model_name(context: RequestContext) -> str:
    """Return the model's name without its profile: SIE accepts ``model:profile`` and ``model@profile``."""
    return context.path["model"].removesuffix(":default").removesuffix("@default")


def _read_items(items: Sequence[SieItem], context: RequestContext) -> list[Content]:
    """Return the text or the media of each item, or several of them together."""
    if not items:
        raise InputError("items is empty: send at least one.", param="items")
    return [_read_item(item, index, context) for index, item in enumerate(items)]


def _read_item(item: SieItem, index: int, context: RequestContext) -> Content:
    name = f"Item {index} of items"
    _refuse_media(item, name, ("document",))
    parts: list[str | Image | Audio | Video] = [] if item.text is None else [item.text]
    parts += [
        picture_from_value(image.data, context.picture_limits, f"The picture of item {index}", request_field="items")
        for image in item.images or ()
    ]
    if item.audio is not None:
        data = _data_of(item.audio)
        parts.append(sound_from_value(data, context.sound_limits, f"The sound of item {index}", request_field="items"))
    if item.video is not None:
        data = _data_of(item.video)
        parts.append(video_from_value(data, context.video_limits, f"The video of item {index}", request_field="items"))
    return join_parts(parts, name, "items") if parts else _read_text(item, name)


def _data_of(value: object) -> object:
    """Return the data of a sound or video, which the SDK sends alone, too."""
    return convert(value, SieSound).data if isinstance(value, Mapping) else value


def _read_texts(items: Sequence[SieItem], field: str) -> list[str]:
    if not items:
        raise InputError(f"{field} is empty: send at least one.", param=field)
    names = [f"Item {index} of {field}" for index in range(len(items))]
    for item, name in zip(items, names, strict=True):
        _refuse_media(item, name, ("images", "audio", "video", "document"))
    return [_read_text(item, name) for item, name in zip(items, names, strict=True)]


def _read_text(item: SieItem, name: str) -> str:
    if item.text is None:
        raise InputError(f"{name} has no text: send 'text'.", param=name.split()[-1])
    return item.text


def _refuse_media(item: SieItem, name: str, fields: Sequence[str]) -> None:
    """Raise InputError if an item has a field of a medium that is not read."""
    medium = next((field for field in fields if getattr(item, field)), None)
    if medium is not None:
        raise InputError(f"{name} has {medium}, and {_HINTS[medium]}: send 'text'.", param=name.split()[-1])


def _check_options(options: SieOptions, body_options: Mapping[str, object]) -> None:
    if options.profile not in (None, "default"):
        raise InputError(f"There is no profile {options.profile[:100]!r} here, only 'default'.", param="profile")
    refused = next((name for name in _REFUSED_OPTIONS if body_options.get(name)), None)
    if refused is not None:
        raise InputError(
            f"The option {refused} is not supported here; ignoring it would change the numbers.", param=refused
        )


def _unknown_options(body_options: Mapping[str, object], prefix: str, *more: str) -> tuple[str, ...]:
    known = {*_KNOWN_OPTIONS, *_REFUSED_OPTIONS, *more}
    unknown = (name for name, value in body_options.items() if name not in known and value is not None)
    return tuple(sorted(f"{prefix}.{name}" for name in unknown))


def _wants_msgpack(context: RequestContext) -> bool:
    """Return whether the response is msgpack: it is JSON only if Accept names JSON and not msgpack."""
    accept = context.headers.get("accept", "").lower()
    return MSGPACK in accept or "application/x-msgpack" in accept or JSON not in accept
