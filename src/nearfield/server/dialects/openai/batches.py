"""OpenAI's Files and Batch API: https://platform.openai.com/docs/api-reference/batch

A client uploads a file of embeddings requests. They are run when the server has capacity, and the responses are
downloaded as another file. Files are for batches only; a file or batch belongs to the API key that created it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.server.batches.batch import BatchObject
from nearfield.server.batches.batch_lines import MAX_BYTES
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.dialects import JsonObject, Reply, Route
from nearfield.server.dialects.openai.errors import error_body
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.files.file_store import FileRecord, FileStore
from nearfield.server.files.upload import Form
from nearfield.server.http.request_context import RequestContext

_MIN_EXPIRY, _MAX_EXPIRY = 3600, 2_592_000
_MAX_FILE_PAGE, _MAX_BATCH_PAGE, _BATCH_PAGE = 10_000, 100, 20


class FileForm(msgspec.Struct):
    """Form of POST /v1/files."""

    file: bytes
    purpose: Literal["batch"]
    expires_anchor: Literal["created_at"] | None = msgspec.field(name="expires_after[anchor]", default=None)
    expires_seconds: Annotated[int, msgspec.Meta(ge=_MIN_EXPIRY, le=_MAX_EXPIRY)] | None = msgspec.field(
        name="expires_after[seconds]", default=None
    )


class FileList(msgspec.Struct):
    """A page of files; with ``has_more``, ``last_id`` is the value of ``after`` for the next page."""

    object: Literal["list"]
    data: list[FileRecord]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(msgspec.Struct):
    """Confirmation that a file was deleted."""

    id: str
    object: Literal["file"]
    deleted: bool


class FileExpiry(msgspec.Struct):
    """Time after which the results are deleted, counted from their creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=_MIN_EXPIRY, le=_MAX_EXPIRY)]


Label = Annotated[str, msgspec.Meta(max_length=64)]
Value = Annotated[str, msgspec.Meta(max_length=512)]


class BatchRequest(msgspec.Struct):
    """Body of POST /v1/batches."""

    input_file_id: str
    endpoint: Literal[
        "/v1/embeddings",
        "/jobs/classify",
        "/jobs/topics",
        "/jobs/recommend",
        "/jobs/outliers",
        "/jobs/drift",
        "/jobs/duplicates",
    ]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Label, Value], msgspec.Meta(max_length=16)] | None = None
    output_expires_after: FileExpiry | None = None


class BatchList(msgspec.Struct):
    """A page of batches, the newest first."""

    object: Literal["list"]
    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


async def upload_file(_: None, context: RequestContext) -> JsonObject:
    """Stream the file to disk; the other fields of the form may follow after the file."""
    files = _file_store(context)
    if context.upload is None:
        raise RuntimeError("the route needs an upload")
    async with files.draft(context.owner) as draft:
        form = await context.upload.read(lambda _: draft.write, MAX_BYTES, run=partial(files.run, context.owner))
        purpose, seconds = form.fields.get("purpose"), _expiry_seconds(form)
        if purpose != "batch":
            raise InputError(f"purpose must be 'batch', not {(purpose or '')[:100]!r}.", param="purpose")
        name = form.filename or "upload.jsonl"
        return _file_to_dict(
            await files.keep(draft, owner=context.owner, purpose=purpose, filename=name, seconds=seconds)
        )


def _expiry_seconds(form: Form) -> int | None:
    anchor, seconds = (form.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InputError("expires_after[anchor] must be 'created_at'.", param="expires_after")
    if seconds is None or not _is_number(seconds) or not _MIN_EXPIRY <= int(seconds) <= _MAX_EXPIRY:
        raise InputError(
            f"expires_after[seconds] must be a number of {_MIN_EXPIRY} to {_MAX_EXPIRY}, not {(seconds or '')[:40]!r}.",
            param="expires_after",
        )
    return int(seconds)


async def list_files(_: None, context: RequestContext) -> JsonObject:
    """Return a page of files."""
    order = context.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InputError(f"order must be 'asc' or 'desc', not {order[:40]!r}.", param="order")
    files, more = await _file_store(context).page(
        context.owner,
        after=context.query.get("after"),
        limit=_page_limit(context, _MAX_FILE_PAGE, _MAX_FILE_PAGE),
        ascending=order == "asc",
        purpose=context.query.get("purpose"),
    )
    return _page_to_dict([_file_to_dict(file) for file in files], more)


async def get_file(_: None, context: RequestContext) -> JsonObject:
    """Return the description of a file."""
    return _file_to_dict(await _file_store(context).find(context.path["file"], context.owner))


async def delete_file(_: None, context: RequestContext) -> JsonObject:
    """Delete a file."""
    await _file_store(context).delete(context.path["file"], context.owner)
    return {"id": context.path["file"], "object": "file", "deleted": True}


async def get_content(_: None, context: RequestContext) -> Reply:
    """Stream the content of a file."""
    files = _file_store(context)
    file = await files.find(context.path["file"], context.owner)
    return Reply(
        files.chunks(file.id, file.bytes, context.owner),
        media_type="application/octet-stream",
        headers={"content-length": str(file.bytes)},
    )


async def create_batch(request: BatchRequest, context: RequestContext) -> JsonObject:
    """Create a batch, which runs when the server has capacity."""
    batch = await _batch_runner(context).create(
        context.owner,
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        metadata=request.metadata,
        seconds=request.output_expires_after.seconds if request.output_expires_after else None,
    )
    return _to_builtins(batch)


async def list_batches(_: None, context: RequestContext) -> JsonObject:
    """Return a page of batches, newest first."""
    limit = _page_limit(context, _BATCH_PAGE, _MAX_BATCH_PAGE)
    batches, more = await _batch_runner(context).page(context.owner, after=context.query.get("after"), limit=limit)
    return _page_to_dict([_to_builtins(batch) for batch in batches], more)


async def get_batch(_: None, context: RequestContext) -> JsonObject:
    """Return a batch and its progress."""
    return _to_builtins(await _batch_runner(context).find(context.path["batch"], context.owner))


async def cancel_batch(_: None, context: RequestContext) -> JsonObject:
    """Cancel a batch."""
    return _to_builtins(await _batch_runner(context).cancel(context.path["batch"], context.owner))


def _file_store(context: RequestContext) -> FileStore:
    if context.files is None:
        raise RuntimeError("the context has no file store")
    return context.files


def _batch_runner(context: RequestContext) -> BatchRunner:
    if context.batches is None:
        raise RuntimeError("the context has no batch runner")
    return context.batches


def _to_builtins(record: FileRecord | BatchObject) -> JsonObject:
    fields: JsonObject = msgspec.to_builtins(record)
    return fields


def _file_to_dict(file: FileRecord) -> JsonObject:
    """Return a file as JSON; without ``expires_at`` if it does not expire."""
    return {name: value for name, value in _to_builtins(file).items() if value is not None}


def _page_to_dict(records: list[JsonObject], more: bool) -> JsonObject:
    first, last = (records[0]["id"], records[-1]["id"]) if records else (None, None)
    return {"object": "list", "data": records, "has_more": more, "first_id": first, "last_id": last}


def _page_limit(context: RequestContext, default: int, max_limit: int) -> int:
    value = context.query.get("limit", str(default))
    if not _is_number(value) or not 1 <= int(value) <= max_limit:
        raise InputError(f"limit must be a whole number of 1 to {max_limit}, not {value[:40]!r}.", param="limit")
    return int(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


_EXAMPLE = {"input_file_id": "file-abc", "endpoint": "/v1/embeddings", "completion_window": "24h"}


class OpenAiBatchesDialect:
    """OpenAI's API of files and batches."""

    name = "openai-batches"
    error_type = ErrorReply
    routes = tuple(
        replace(route, rate_limit_exempt=True)
        for route in (
            Route(
                "/v1/files",
                "Upload a file of requests",
                upload_file,
                request_type=FileForm,
                response_type=FileRecord,
                upload=True,
            ),
            Route("/v1/files", "List the files", list_files, response_type=FileList, method="GET"),
            Route("/v1/files/{file}", "Describe a file", get_file, response_type=FileRecord, method="GET"),
            Route("/v1/files/{file}", "Delete a file", delete_file, response_type=DeletedFile, method="DELETE"),
            Route("/v1/files/{file}/content", "Download a file", get_content, method="GET"),
            Route(
                "/v1/batches",
                "Create a batch from a file of requests",
                create_batch,
                request_type=BatchRequest,
                response_type=BatchObject,
                example=_EXAMPLE,
            ),
            Route("/v1/batches", "List the batches", list_batches, response_type=BatchList, method="GET"),
            Route(
                "/v1/batches/{batch}",
                "Describe a batch",
                get_batch,
                response_type=BatchObject,
                method="GET",
            ),
            Route(
                "/v1/batches/{batch}/cancel",
                "Cancel a batch; finished requests keep their results",
                cancel_batch,
                response_type=BatchObject,
            ),
        )
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return OpenAI's error body."""
        return error_body(error)
