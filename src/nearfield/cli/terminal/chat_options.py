"""The chat endpoint of a command: options of the command line over settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearfield.corpus.answering.chat_client import ChatEndpoint


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
