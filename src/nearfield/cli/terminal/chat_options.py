"""The chat endpoint of a command: options of the command line over settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nearfield.corpus.answering.chat_client import ChatEndpoint

ChatUrl = Annotated[str | None, typer.Option(help="Chat endpoint, OpenAI-compatible or Ollama [from the settings].")]
ChatModel = Annotated[str | None, typer.Option(help="Model of the chat endpoint [from the settings].")]
ChatKind = Annotated[str | None, typer.Option(help="API of the chat endpoint: openai or ollama [by its URL].")]


def configured_endpoint(**flags: str | float | None) -> ChatEndpoint | None:
    """Return the chat endpoint of the flags (such as ``chat_url``) and settings; None if there is no URL.

    Raises:
        InputError: a value is invalid.
        SettingsError: a setting is.
    """
    from nearfield import settings
    from nearfield.corpus.answering.chat_client import ChatEndpoint

    chat = settings.load(**flags)
    return ChatEndpoint.configured(
        chat.chat_url,
        chat.chat_model,
        chat.chat_kind,
        chat.chat_timeout,
        chat.chat_max_tokens,
        chat.chat_temperature,
    )
