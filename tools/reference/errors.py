"""Generator of ``errors.md``: the error tree with HTTP status, wire types, and what to do about each error."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from nearfield import errors
from nearfield.server.dialects import REGISTRY, Reply
from tools.reference.markdown import join_page, render_table, to_markdown

PAGE = "errors.md"
_INTRO = """Every error that Nearfield raises on purpose is a subclass of `nearfield.errors.NearfieldError`. The server turns an
error into a reply in the form of the API that the client speaks:

- **status** is the HTTP status. For some errors, TEI and Ollama clients get the statuses that they expect.
- **code** is `error.code` in the replies of the OpenAI, Cohere, Jina and native APIs.
- **type** is `error.type` in these replies. TEI's replies have `error_type` instead.

Each message says what was wrong, with which value, and what to do. This page is generated from the code by
`python -m tools.reference`."""

#: What the reader of an error should do, by the name of its class.
_ADVICE = {
    "NearfieldError": "Catch this class to catch all errors that Nearfield raises on purpose. In a reply it means a fault of the server: see its log.",
    "InputError": "Correct the argument or field that the message names. Repeating the call gives the same error.",
    "UnsupportedDimensions": "Leave the dimensions out, choose those that the model was trained for, or force others (`force_truncate_dim`).",
    "UnknownKeyword": "Correct the name of the keyword argument; the message names the nearest one.",
    "WrongModel": "Choose a model with the output you need; `nearfield models list --kind` lists them.",
    "InputTooLong": "Shorten the input, allow truncation, or read it in pieces (`truncate=\"chunk\"`).",
    "TooLarge": "Send fewer or shorter inputs per request, or raise `max_body_bytes`, `max_items` or `max_request_tokens`.",
    "SlowBody": "Send the request again over a faster connection, or in smaller parts.",
    "UnsupportedMedia": "Send JSON with `Content-Type: application/json`, plain or gzip.",
    "MissingBody": "Send the request with a JSON body.",
    "NotAcceptable": "Leave `Accept` out, or name a form that the route offers.",
    "ForkedProcess": "Load the model, or open the collection, in the new process; or start that one with `spawn` or `forkserver`.",
    "NotThere": "Check the id, and that the API key is the one that created the file or batch.",
    "CollectionNotFound": "`nearfield collections list` prints the collections; `nearfield index` creates one.",
    "AccessDenied": "Send a known API key: `Authorization: Bearer <key>`.",
    "Forbidden": "Use a key with the scope and model that the message names, or add the host or origin to the settings.",
    "ModelNotFound": "Check the name against `GET /v1/models` or `nearfield models list`; the message names the nearest one.",
    "SourceUnavailable": "Check the network, `HF_ENDPOINT` and `HF_TOKEN`, or fetch the model first with `nearfield models pull`.",
    "ModelRefused": "Read the reason in the message. Use another model, or another file of this one.",
    "LicenceRefused": "If the licence allows your use, pass `--accept-license` (Python: `accept_license=True`).",
    "WeightsError": "Fetch the model again; if the error stays, its folder does not match its `config.json`.",
    "UnsafeFile": "Use a copy of the model with safetensors weights.",
    "SpaceMismatch": "Encode both sides with the same model, prompt and settings. For a collection: `nearfield index` again.",
    "Overloaded": "Wait for the seconds in `Retry-After`, then send the request again.",
    "RateLimited": "Wait for the seconds in `Retry-After`, or ask for a key with a higher rate.",
    "TooManyBatches": "Wait until one of your batches has ended, or cancel one.",
    "ModelUnavailable": "Wait for the seconds in `Retry-After`. If it stays, raise `memory_budget` or read the server's log.",
    "OutOfMemory": "Wait for the seconds in `Retry-After`, send less at once, or give the server more memory.",
    "DeadlineExceeded": "Send it again later, with fewer inputs, or raise `request_timeout`.",
    "Cancelled": "Nothing: the client itself closed the connection.",
    "ShuttingDown": "Send the request again to another server, or after the restart.",
    "ExecutionFailed": "Send the input alone to confirm. If it fails again, report it with the model's name.",
    "StorageFailed": "Check that `data_dir` exists and that the server may write to it.",
    "StorageFull": "Free disk space in `data_dir`, or delete old files over the API.",
    "QuotaExceeded": "Delete files over the API, or raise the setting that the message names.",
    "BatchesElsewhere": "Give each server its own `data_dir`, or send the batch to the process that the message names.",
    "ClusterFailed": "Check that the Ray cluster runs, and that its machines have what the message names.",
    "StoreFailed": "Check the database's address and that it runs. The run continues where it stopped.",
    "CollectionBusy": "Wait until the other process has finished writing.",
    "MachineBusy": "Wait until the other work has ended, or do without a new measurement as the message says.",
    "AnswerFailed": "Check `chat_url`, `chat_model` and `NEARFIELD_CHAT_KEY`, and that the chat server runs.",
    "ServerRefused": "Read the server's message. For 401 and 403 check the key, for 404 the name of the model.",
    "SettingsError": "Correct the setting that the message names; see [settings](settings.md).",
    "TrainingDiverged": "Lower the rate (`--rate`), and look for empty or odd texts in the data.",
    "MissingExtra": "Run the `pip install` that the message names.",
}  # fmt: skip


def render() -> str:
    """Return the whole page."""
    head = ("error", "status", "code", "type", "TEI's error_type")
    parts = ["## Status, code and type", render_table(head, map(_status_row, error_classes()))]
    parts += ["## Meaning, and what to do", render_table(("error", "meaning", "what to do"), _advice_rows())]
    return join_page("Errors", _INTRO, *parts)


def error_classes() -> list[type[errors.NearfieldError]]:
    """Return the error classes of ``nearfield.errors``, each after its base."""
    return list(_walk(errors.NearfieldError))


def _walk(kind: type[errors.NearfieldError]) -> Iterator[type[errors.NearfieldError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _walk(child)


def _status_row(kind: type[errors.NearfieldError]) -> tuple[str, ...]:
    error = kind("")
    depth = len([base for base in kind.__mro__ if issubclass(base, errors.NearfieldError)]) - 1
    status, openai = _refusal("openai", error)
    tei_status, tei = _refusal("tei", error)
    other = f"`{tei['error_type']}`" + (f" ({tei_status})" if tei_status != status else "")
    name = f"{'– ' * depth}`{kind.__name__}`"
    return name, str(status), f"`{kind.code}`", f"`{openai['error']['type']}`", other


def _refusal(dialect: str, error: errors.NearfieldError) -> tuple[int, Any]:
    """Return the status and body with which a dialect reports an error."""
    reply = REGISTRY.load(dialect)().refuse(error)
    return (reply.status, reply.content) if isinstance(reply, Reply) else (error.status, reply)


def _advice_rows() -> Iterator[tuple[str, ...]]:
    for kind in error_classes():
        meaning = to_markdown(" ".join((inspect.getdoc(kind) or "").split()))
        yield f"`{kind.__name__}`", meaning, _ADVICE[kind.__name__]
