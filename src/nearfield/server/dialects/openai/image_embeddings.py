"""Pictures, sounds and videos on the paths of OpenAI's embeddings API: vLLM's chat form, and Infinity's ``modality``.

vLLM: https://docs.vllm.ai/en/latest/models/pooling_models.html
Infinity: https://github.com/michaelfeil/infinity
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects.openai.embeddings import resolve_name
from nearfield.server.dialects.openai.schemas import (
    ChatEmbeddingMessage,
    ChatEmbeddingRequest,
    ChatPart,
    InfinityMediaRequest,
)
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeOptions
from nearfield.server.exchange.content_parts import join_parts
from nearfield.server.exchange.picture_inputs import picture_from_text, pictures_from_texts
from nearfield.server.exchange.sound_inputs import sound_from_text, sounds_from_texts
from nearfield.server.exchange.video_inputs import video_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription

#: Types of parts of a message that are read.
_PARTS = ("text", "image_url", "input_audio", "audio_url", "video_url")


def is_chat_request(context: RequestContext) -> bool:
    """Return whether a body of /v1/embeddings has vLLM's chat form."""
    return "messages" in context.body and "input" not in context.body


def read_chat(request: ChatEmbeddingRequest, context: RequestContext) -> Encode:
    """Convert messages to an exchange with one input."""
    instruction, messages = _split_system(request.messages)
    parts = list(_content_of(messages, context))
    return Encode(
        model=resolve_name(request.model, context),
        inputs=[join_parts(parts, "The content of messages", "messages", "\n")],
        options=EncodeOptions(
            truncate_dim=request.dimensions,
            role=request.input_type,
            truncate=request.truncate or "report",
            precision=request.embedding_dtype or "float32",
        ),
        input_field="messages",
        options_for=None if instruction is None else partial(_instruct, instruction),
        reply_options={"base64": request.encoding_format == "base64"},
    )


def _split_system(messages: Sequence[ChatEmbeddingMessage]) -> tuple[str | None, Sequence[ChatEmbeddingMessage]]:
    """Return the text of a first message of the role system, and the messages after it."""
    first = messages[0] if len(messages) > 1 else None
    if first is None or first.role != "system" or not _is_filled(first):
        return None, messages
    parts = [first.content] if isinstance(first.content, str) else [part.text for part in first.content or ()]
    if None in parts:
        raise InputError("messages 0 has the role system, and a part that is no text: send its text.", param="messages")
    return "".join(part or "" for part in parts), messages[1:]


def _instruct(instruction: str, model: ModelDescription) -> EncodeKeywords:
    """Return the option for the message of the role system, which only the templates of chats have a place for."""
    if not model.fuses:
        raise InputError(
            f"messages has a message of the role system, and {model.name} has no chat template with a place for it: "
            "send one message of the role user.",
            param="messages",
        )
    return {"instruction": instruction}


def _is_filled(message: ChatEmbeddingMessage) -> bool:
    """Return whether a message has content; clients of chat models add empty ones, for the answer."""
    if not message.content or isinstance(message.content, str):
        return bool(message.content)
    return any(part.type != "text" or part.text for part in message.content)


def read_infinity_images(request: InfinityMediaRequest, context: RequestContext) -> Encode:
    """Convert a body of Infinity's older form to an exchange."""
    return Encode(
        model=resolve_name(request.model, context),
        inputs=pictures_from_texts(request.input, context.picture_limits),
        options=EncodeOptions(truncate_dim=request.dimensions or None),
        reply_options={"base64": request.encoding_format == "base64"},
    )


def read_infinity_sounds(request: InfinityMediaRequest, context: RequestContext) -> Encode:
    """Convert a body of Infinity's older form for sounds to an exchange."""
    return Encode(
        model=resolve_name(request.model, context),
        inputs=sounds_from_texts(request.input, context.sound_limits),
        options=EncodeOptions(truncate_dim=request.dimensions or None),
        reply_options={"base64": request.encoding_format == "base64"},
    )


def _content_of(
    messages: Sequence[ChatEmbeddingMessage], context: RequestContext
) -> Iterator[str | Image | Audio | Video]:
    """Yield the parts of the only message that has any.

    Raises:
        InputError: several messages have content, or a part is neither a text nor a medium.
    """
    filled = [(index, message) for index, message in enumerate(messages) if _is_filled(message)]
    if len(filled) > 1:
        roles = ", ".join(message.role for _, message in filled)
        raise InputError(
            f"messages has content of several messages ({roles}), which are not joined: send one message of the role "
            "user, after one of the role system if the model takes instructions.",
            param="messages",
        )
    for index, message in filled:
        if isinstance(message.content, str):
            yield message.content
            continue
        for number, part in enumerate(message.content or ()):
            yield _read_part(part, f"messages {index}, part {number}", context)


def _read_part(part: ChatPart, field: str, context: RequestContext) -> str | Image | Audio | Video:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "image_url" and part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        return picture_from_text(url, context.picture_limits, field, bare_base64=False, request_field="messages")
    if part.type == "input_audio" and part.input_audio is not None:
        return sound_from_text(part.input_audio.data, context.sound_limits, field, request_field="messages")
    if part.type == "audio_url" and part.audio_url is not None:
        url = part.audio_url if isinstance(part.audio_url, str) else part.audio_url.url
        return sound_from_text(url, context.sound_limits, field, request_field="messages")
    if part.type == "video_url" and part.video_url is not None:
        url = part.video_url if isinstance(part.video_url, str) else part.video_url.url
        return video_from_text(url, context.video_limits, field, bare_base64=False, request_field="messages")
    problem = f"is {part.type!r} and has no {part.type}" if part.type in _PARTS else f"is {part.type!r:.100}"
    known = ", ".join(map(repr, _PARTS))
    raise InputError(f"{field} {problem}: send parts of type {known}.", param="messages")
