"""Request and response structs of OpenAI's embeddings and models API."""

from __future__ import annotations

from typing import Literal

import msgspec

from nearfield.server.dialects.schemas import Dtype, Name, Truncate
from nearfield.server.models.model_entry import State


class OpenAiEmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings."""

    input: str | list[str | int | list[int]]
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    input_type: Literal["query", "document"] | None = None
    prompt_name: Name | None = None
    instruction: str | None = None
    truncate: Truncate | None = None
    embedding_dtype: Dtype | None = None
    #: A field of Infinity, whose client always sends it, and sends 0 ``dimensions`` to get all of them. With ``image``,
    #: or ``audio``, the inputs are pictures or sounds: data URIs or base64.
    modality: Literal["text", "image", "audio"] | None = None


class InfinityMediaRequest(msgspec.Struct):
    """Body of POST /embeddings_image and /embeddings_audio, Infinity's older forms: data URIs or base64."""

    input: str | list[str]
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class ChatImageUrl(msgspec.Struct, forbid_unknown_fields=True):
    """A picture of a message, as a data URI. ``detail`` is without effect, as in vLLM."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ChatInputAudio(msgspec.Struct, forbid_unknown_fields=True):
    """A sound of a message, in base64. The format is read from the bytes."""

    data: str
    format: str | None = None


class ChatAudioUrl(msgspec.Struct, forbid_unknown_fields=True):
    """A sound of a message, as a data URI."""

    url: str


class ChatVideoUrl(msgspec.Struct, forbid_unknown_fields=True):
    """A video of a message, as a data URI."""

    url: str


class ChatPart(msgspec.Struct, forbid_unknown_fields=True):
    """One part of a message: a text, a picture, a sound or a video.

    ``uuid`` names a medium in vLLM's cache. Here the key is the content, so that it is without effect.
    """

    type: Name
    text: str | None = None
    image_url: ChatImageUrl | str | None = None
    input_audio: ChatInputAudio | None = None
    audio_url: ChatAudioUrl | str | None = None
    video_url: ChatVideoUrl | str | None = None
    uuid: str | None = None


class ChatEmbeddingMessage(msgspec.Struct):
    """One message of a conversation."""

    role: Name
    content: str | list[ChatPart] | None = None


class ChatEmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings in vLLM's form, with ``messages`` in place of ``input``: one vector of one message.

    The content of the message is the input: texts, joined by line breaks, one picture or sound, or several of them for
    models that read them together. For these, a first message of the role system is the instruction. A
    ``truncate_prompt_tokens`` of -1 reads as many tokens as the model does, as is the default.
    """

    messages: list[ChatEmbeddingMessage]
    model: Name
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None
    truncate_prompt_tokens: Literal[-1] | None = None
    input_type: Literal["query", "document"] | None = None
    truncate: Truncate | None = None
    embedding_dtype: Dtype | None = None


class OpenAiEmbedding(msgspec.Struct):
    """One vector: numbers, or base64 of their bytes, little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAiUsage(msgspec.Struct, omit_defaults=True):
    """Numbers of tokens read, and of tokens cut off because inputs were too long."""

    prompt_tokens: int
    total_tokens: int
    truncated_tokens: int = 0


class OpenAiEmbeddingReply(msgspec.Struct, omit_defaults=True):
    """Response body of POST /v1/embeddings: a vector for each input, in order."""

    object: Literal["list"]
    data: list[OpenAiEmbedding]
    model: str
    usage: OpenAiUsage
    #: Smallest and largest value that int8 and uint8 represent.
    embedding_range: tuple[float, float] | None = None


class OpenAiModel(msgspec.Struct):
    """A served model: OpenAI's fields, our own, and from ``name`` on those of Cohere."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    max_length: int
    outputs: list[str]
    prompts: list[str]
    fingerprint: str | None
    #: Number format of a loaded model's arithmetic.
    precision: str | None
    #: The devices on which a loaded model runs, such as ``cpu``: each has a replica.
    devices: list[str]
    licence: str | None
    #: An ``available`` model is loaded by the first request for it. Until then the other fields come from the
    #: catalogue, and are 0, empty or null if it does not know them.
    state: State
    name: str
    is_deprecated: bool
    #: Endpoints of Cohere's API that the model serves, and those for which it is the default model.
    endpoints: list[str]
    default_endpoints: list[str]
    finetuned: bool
    context_length: int
    tokenizer_url: str


class OpenAiModelList(msgspec.Struct):
    """The served models; ``models`` repeats ``data`` for Cohere's clients."""

    object: Literal["list"]
    data: list[OpenAiModel]
    models: list[OpenAiModel]
    next_page_token: str | None
