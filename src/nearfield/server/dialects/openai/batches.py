"""OpenAI's Files and Batch API: https://platform.openai.com/docs/api-reference/batch

A file of requests for vectors is uploaded, done when there is room, and its answers are fetched as another file.
Files are only those of batches; a file or batch belongs to the key that made it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec

from nearfield.errors import InputError, NearfieldError
from nearfield.server.batches.batch import BatchObject
from nearfield.server.batches.batch_lines import MAX_BYTES
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.dialects import Reply, RequestContext, Route
from nearfield.server.dialects.openai.embeddings import OpenAiDialect
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.files.file_store import FileRecord, FileStore
from nearfield.server.files.upload import Form

_SHORTEST, _LONGEST = 3600, 2_592_000
_MOST_FILES, _MOST_BATCHES, _BATCHES = 10_000, 100, 20


class FileForm(msgspec.Struct):
    """The form of POST /v1/files."""

    file: bytes
    purpose: Literal["batch"]
    expires_anchor: Literal["created_at"] | None = msgspec.field(name="expires_after[anchor]", default=None)
    expires_seconds: Annotated[int, msgspec.Meta(ge=_SHORTEST, le=_LONGEST)] | None = msgspec.field(
        name="expires_after[seconds]", default=None
    )


class FileList(msgspec.Struct):
    """A page of files; with ``has_more`` the next is asked for by ``after``, the last one's id."""

    object: Literal["list"]
    data: list[FileRecord]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Deleted(msgspec.Struct):
    """That a file is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class Expiry(msgspec.Struct):
    """For how long the results are kept, from when they were made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=_SHORTEST, le=_LONGEST)]


Label = Annotated[str, msgspec.Meta(max_length=64)]
Value = Annotated[str, msgspec.Meta(max_length=512)]


class BatchRequest(msgspec.Struct):
    """The body of POST /v1/batches."""

    input_file_id: str
    endpoint: Literal["/v1/embeddings"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[Label, Value], msgspec.Meta(max_length=16)] | None = None
    output_expires_after: Expiry | None = None


class BatchList(msgspec.Struct):
    """A page of batches, the newest first."""

    object: Literal["list"]
    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


async def _upload(_: None, call: RequestContext) -> dict[str, Any]:
    """Write the file as it comes; what the form says beside it may come later than the file."""
    files = _files(call)
    if call.upload is None:
        raise RuntimeError("the route takes an upload")
    async with files.draft() as draft:
        form = await call.upload.read(draft.write, MAX_BYTES)
        purpose, seconds = form.fields.get("purpose"), _seconds(form)
        if purpose != "batch":
            raise InputError(f"purpose must be 'batch', not {(purpose or '')[:100]!r}.", param="purpose")
        name = form.filename or "upload.jsonl"
        return _file(await files.keep(draft, owner=call.owner, purpose=purpose, filename=name, seconds=seconds))


def _seconds(form: Form) -> int | None:
    anchor, seconds = (form.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InputError("expires_after[anchor] must be 'created_at'.", param="expires_after")
    if seconds is None or not _digits(seconds) or not _SHORTEST <= int(seconds) <= _LONGEST:
        raise InputError(
            f"expires_after[seconds] must be a number of {_SHORTEST} to {_LONGEST}, not {(seconds or '')[:40]!r}.",
            param="expires_after",
        )
    return int(seconds)


async def _list_files(_: None, call: RequestContext) -> dict[str, Any]:
    order = call.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InputError(f"order must be 'asc' or 'desc', not {order[:40]!r}.", param="order")
    found, more = await _files(call).page(
        call.owner,
        after=call.query.get("after"),
        limit=_limit(call, _MOST_FILES, _MOST_FILES),
        ascending=order == "asc",
        purpose=call.query.get("purpose"),
    )
    return _page([_file(file) for file in found], more)


async def _one_file(_: None, call: RequestContext) -> dict[str, Any]:
    return _file(await _files(call).find(call.path["file"], call.owner))


async def _delete_file(_: None, call: RequestContext) -> dict[str, Any]:
    await _files(call).delete(call.path["file"], call.owner)
    return {"id": call.path["file"], "object": "file", "deleted": True}


async def _content(_: None, call: RequestContext) -> Reply:
    files = _files(call)
    file = await files.find(call.path["file"], call.owner)
    return Reply(
        files.chunks(file.id, file.bytes),
        media_type="application/octet-stream",
        headers={"content-length": str(file.bytes)},
    )


async def _create(request: BatchRequest, call: RequestContext) -> dict[str, Any]:
    batch = await _batches(call).create(
        call.owner,
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        metadata=request.metadata,
        seconds=request.output_expires_after.seconds if request.output_expires_after else None,
    )
    return _plain(batch)


async def _list(_: None, call: RequestContext) -> dict[str, Any]:
    limit = _limit(call, _BATCHES, _MOST_BATCHES)
    found, more = await _batches(call).page(call.owner, after=call.query.get("after"), limit=limit)
    return _page([_plain(batch) for batch in found], more)


async def _one(_: None, call: RequestContext) -> dict[str, Any]:
    return _plain(await _batches(call).find(call.path["batch"], call.owner))


async def _cancel(_: None, call: RequestContext) -> dict[str, Any]:
    return _plain(await _batches(call).cancel(call.path["batch"], call.owner))


def _files(call: RequestContext) -> FileStore:
    if call.files is None:
        raise RuntimeError("the server keeps files")
    return call.files


def _batches(call: RequestContext) -> BatchRunner:
    if call.batches is None:
        raise RuntimeError("the server keeps batches")
    return call.batches


def _plain(record: Any) -> dict[str, Any]:
    return msgspec.to_builtins(record)


def _file(file: FileRecord) -> dict[str, Any]:
    """Write a file; one that stays has no time of expiry."""
    return {name: value for name, value in _plain(file).items() if value is not None}


def _page(found: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    first, last = (found[0]["id"], found[-1]["id"]) if found else (None, None)
    return {"object": "list", "data": found, "has_more": more, "first_id": first, "last_id": last}


def _limit(call: RequestContext, default: int, most: int) -> int:
    given = call.query.get("limit", str(default))
    if not _digits(given) or not 1 <= int(given) <= most:
        raise InputError(f"limit must be a whole number of 1 to {most}, not {given[:40]!r}.", param="limit")
    return int(given)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


_EXAMPLE = {"input_file_id": "file-abc", "endpoint": "/v1/embeddings", "completion_window": "24h"}


class OpenAiBatchesDialect:
    """The dialect."""

    name = "openai-batches"
    error_type = ErrorReply
    routes = tuple(
        replace(route, rate_limit_exempt=True)
        for route in (
            Route(
                "/v1/files",
                "Upload a file of requests",
                _upload,
                request_type=FileForm,
                response_type=FileRecord,
                upload=True,
            ),
            Route("/v1/files", "List the files", _list_files, response_type=FileList, method="GET"),
            Route("/v1/files/{file}", "Describe a file", _one_file, response_type=FileRecord, method="GET"),
            Route("/v1/files/{file}", "Delete a file", _delete_file, response_type=Deleted, method="DELETE"),
            Route("/v1/files/{file}/content", "Fetch a file", _content, method="GET"),
            Route(
                "/v1/batches",
                "Have a file of requests done",
                _create,
                request_type=BatchRequest,
                response_type=BatchObject,
                example=_EXAMPLE,
            ),
            Route("/v1/batches", "List the batches", _list, response_type=BatchList, method="GET"),
            Route("/v1/batches/{batch}", "Tell how far a batch is", _one, response_type=BatchObject, method="GET"),
            Route(
                "/v1/batches/{batch}/cancel", "Stop a batch; what is done is kept", _cancel, response_type=BatchObject
            ),
        )
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Say it as the API of vectors does."""
        return OpenAiDialect().refuse(error)
