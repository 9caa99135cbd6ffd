"""Models that a running server computes: the classes of models, without weights in this process.

With the variable ``NEARFIELD_SERVER`` (``http://127.0.0.1:8080`` or ``unix:/path``), ``nearfield.load``, the commands
that encode and ``nearfield mcp`` attach to that server in place of loading a model again. Recipe, tokenizer and
fingerprint are read here from the model's files; vectors come over the native API as msgpack, bit for bit.
A server whose model has another fingerprint, or an option that only loading can honour, is an error: nothing is loaded
without notice, and no vectors of another space are returned. The key is read from ``NEARFIELD_KEY``.

With ``NEARFIELD_SERVER=auto``, the servers of this user on this machine are found by the files that they write
(`attach.server_files`), and the first that has the model is used. If none can be used, the model is loaded here. Either
way one line on stderr says so.

The functions are for the other packages of Nearfield. Their users have ``nearfield.load`` and the variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nearfield.client.server_api import check_url
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SettingsError
from nearfield.reranker import Classifier, Reranker

if TYPE_CHECKING:
    from nearfield.inference.uncompiled_model import UncompiledModel

__all__ = ["AUTO", "KEY_VARIABLE", "SERVER_VARIABLE", "open_classifier", "open_encoder", "open_reranker", "server_url"]

#: Variables with the URL of the server, and with its API key.
SERVER_VARIABLE, KEY_VARIABLE = "NEARFIELD_SERVER", "NEARFIELD_KEY"
#: In place of the URL: a server of this user on this machine.
AUTO = "auto"


def server_url() -> str | None:
    """Return the URL of the server to attach to, or ``auto``; None where the variable is not set or empty.

    Raises:
        SettingsError: its value is neither.
    """
    url = os.environ.get(SERVER_VARIABLE, "").strip()
    if not url or url == AUTO:
        return url or None
    try:
        check_url(url)
    except InputError as error:
        raise SettingsError(f"{SERVER_VARIABLE}: {error} To find a server of yours on this machine: auto.") from error
    return url


def open_encoder(model: str | UncompiledModel, **options: Any) -> Encoder:
    """Return an encoder: attached to the server of ``NEARFIELD_SERVER`` if that is set, else loaded in this process.

    Args:
        model: as for ``Encoder``.
        options: keywords of ``Encoder``. With an ``engine`` the model is always loaded in this process.

    Raises:
        InputError: a server cannot honour an option.
        ModelNotFound: the server does not have the model.
        SpaceMismatch: its model gives other vectors than the files here.
        NearfieldError: it does not answer, or what ``Encoder`` raises.
    """
    url = _url_for(options)
    if url is None:
        return Encoder(model, **options)
    from nearfield.attach.attached_encoder import attach_encoder
    from nearfield.attach.server_choice import open_attached

    return open_attached(url, attach_encoder, Encoder, model, options)


def open_reranker(model: str | UncompiledModel, **options: Any) -> Reranker:
    """Return a reranker as ``open_encoder`` returns an encoder; options are keywords of ``Reranker``."""
    url = _url_for(options)
    if url is None:
        return Reranker(model, **options)
    from nearfield.attach.attached_scorer import attach_reranker
    from nearfield.attach.server_choice import open_attached

    return open_attached(url, attach_reranker, Reranker, model, options)


def open_classifier(model: str | UncompiledModel, **options: Any) -> Classifier:
    """Return a classifier as ``open_encoder`` returns an encoder; options are keywords of ``Classifier``."""
    url = _url_for(options)
    if url is None:
        return Classifier(model, **options)
    from nearfield.attach.attached_scorer import attach_classifier
    from nearfield.attach.server_choice import open_attached

    return open_attached(url, attach_classifier, Classifier, model, options)


def _url_for(options: Mapping[str, Any]) -> str | None:
    return server_url() if options.get("engine") is None else None
