"""Uploads of files to collections: in one request as a form, or resumable by the protocol tus 1.0 (tus.io)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from functools import wraps
from typing import TYPE_CHECKING, TypeAlias

from nearfield.errors import InputError, UnsupportedMedia
from nearfield.server.collections.upload_store import (
    ALGORITHMS,
    CollectionUploads,
    UploadChecksum,
    UploadLimits,
    UploadState,
    UploadWriter,
)
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.dialects.collections.requests import use_collection
from nearfield.server.dialects.collections.responses import report_to_dict
from nearfield.server.files.file_threads import in_thread
from nearfield.server.files.upload import Form, MultipartUpload
from nearfield.server.http.request_context import RequestContext

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection

#: Media type of the body of PATCH, as the protocol states it.
OFFSET_STREAM = "application/offset+octet-stream"
_VERSION = "1.0.0"
_HEADERS = {"tus-resumable": _VERSION, "cache-control": "no-store"}
_MAX_METADATA = 4096
#: Files of one form.
_MAX_FILES = 100

_Handler: TypeAlias = Callable[[None, RequestContext], Awaitable[Reply]]


async def upload_file(_: None, context: RequestContext) -> JsonObject:
    """Store the files of a form as they arrive, and index them."""
    uploads = await _new_uploads(context)
    drafts: list[UploadWriter] = []

    def begin(_: str) -> Callable[[bytes], None]:
        drafts.append(uploads.draft(context.owner, drafts))
        return drafts[-1].write

    try:
        form = await _body(context).read(begin, uploads.max_bytes, max_files=_MAX_FILES)
        names = await in_thread(uploads.store, drafts, _filenames(form), context.owner)
    finally:
        for draft in drafts:
            await in_thread(uploads.discard, draft)
    return await _index(context, names)


def _filenames(form: Form) -> list[str]:
    other = form.fields.get("filename")
    if other and len(form.filenames) > 1:
        raise InputError("filename renames one file, and the form has several: leave it out.", param="filename")
    return [other] if other else form.filenames


async def describe_protocol(_: None, context: RequestContext) -> Reply:
    """Return the version and the extensions of the protocol."""
    limit = _limits(context).file_bytes
    headers = {"tus-version": _VERSION, "tus-extension": "creation,expiration,termination,checksum"}
    headers["tus-checksum-algorithm"] = ",".join(ALGORITHMS)
    return _empty(204, {**headers, **({"tus-max-size": str(limit)} if limit else {})})


def _versioned(handler: _Handler) -> _Handler:
    """Return a handler that refuses other versions of the protocol, with status 412."""

    @wraps(handler)
    async def checked(body: None, context: RequestContext) -> Reply:
        if context.headers.get("tus-resumable", _VERSION) != _VERSION:
            return _empty(412, {"tus-version": _VERSION})
        return await handler(body, context)

    return checked


@_versioned
async def create_upload(_: None, context: RequestContext) -> Reply:
    """Begin a resumable upload."""
    length = _number_header(context, "upload-length")
    filename = _metadata(context.headers.get("upload-metadata", "")).get("filename", "")
    uploads = await _new_uploads(context)
    state = await in_thread(uploads.create, context.owner, filename, length)
    return _empty(201, {"location": f"/collections/{context.path['name']}/uploads/{state.id}", **_expiry(state)})


@_versioned
async def describe_upload(_: None, context: RequestContext) -> Reply:
    """Return how much of an upload has arrived."""
    uploads = await _uploads(context)
    state = await in_thread(uploads.find, context.path["upload"], context.owner)
    lengths = {"upload-offset": str(state.offset), "upload-length": str(state.record.length)}
    return _empty(200, {**lengths, **_expiry(state)})


@_versioned
async def continue_upload(_: None, context: RequestContext) -> Reply:
    """Store what the body has, from the offset on; index the file once it is complete."""
    if context.headers.get("content-type", "").partition(";")[0].strip().lower() != OFFSET_STREAM:
        raise UnsupportedMedia(f"The body continues a file: send 'Content-Type: {OFFSET_STREAM}'.")
    offset, upload = _number_header(context, "upload-offset"), context.path["upload"]
    checksum = _checksum(context.headers.get("upload-checksum", ""))
    uploads = await _uploads(context)
    lock = uploads.locked(upload, context.owner, offset)
    state = await in_thread(lock.__enter__)
    try:
        writer = await in_thread(uploads.open, state, checksum) if not state.is_complete else None
        if writer is not None:
            try:
                await _body(context).read_bytes(writer.write)
                writer.verify()
            finally:
                await in_thread(writer.close)
        reached = offset if writer is None else writer.size
        headers = {"upload-offset": str(reached)}
        if reached < state.record.length:
            return _empty(204, {**headers, **_expiry(await in_thread(uploads.find, upload, context.owner))})
        name = await in_thread(uploads.place, state)
        report = await _index(context, [name])
        await in_thread(uploads.remove, upload)
        headers["upload-document"] = _quoted(str(report["document"]))
        return _empty(204, headers) if not _prefers_report(context) else _reported(report, headers)
    finally:
        await in_thread(lock.__exit__, None, None, None)


@_versioned
async def delete_upload(_: None, context: RequestContext) -> Reply:
    """End an upload, and remove what has arrived."""
    uploads = await _uploads(context)

    def remove() -> None:
        with uploads.locked(context.path["upload"], context.owner) as state:
            uploads.remove(state.id)

    await in_thread(remove)
    return _empty(204, {})


async def _index(context: RequestContext, names: Sequence[str]) -> JsonObject:
    def index(collection: Collection) -> JsonObject:
        report = report_to_dict(collection.index_uploads(names))
        documents = [f"upload:#{name}" for name in names]
        return {"document": documents[0], "documents": documents, **report}

    return await use_collection(context, index)


async def _uploads(context: RequestContext, *, models: bool = False) -> CollectionUploads:
    limits = _limits(context)
    owner_bytes = None if context.collections is None else context.collections.owner_bytes
    return await use_collection(
        context, lambda collection: CollectionUploads.of_collection(collection, limits, owner_bytes), models=models
    )


async def _new_uploads(context: RequestContext) -> CollectionUploads:
    """Return where files are stored. Those that no model of the server can read are refused before they are sent."""
    return await _uploads(context, models=True)


def _limits(context: RequestContext) -> UploadLimits:
    return UploadLimits() if context.collections is None else context.collections.upload_limits


def _body(context: RequestContext) -> MultipartUpload:
    if context.upload is None:
        raise RuntimeError("the route needs an upload")
    return context.upload


def _empty(status: int, headers: dict[str, str]) -> Reply:
    return Reply(b"", status, headers={**_HEADERS, **headers})


def _prefers_report(context: RequestContext) -> bool:
    """Return whether a client wants the report of the indexing (RFC 7240), which the protocol does not have."""
    preferences = context.headers.get("prefer", "").lower().split(",")
    return "return=representation" in map(str.strip, preferences)


def _reported(report: JsonObject, headers: dict[str, str]) -> Reply:
    applied = {"preference-applied": "return=representation"}
    return Reply(report, 200, headers={**_HEADERS, **headers, **applied})


def _expiry(state: UploadState) -> dict[str, str]:
    return {"upload-expires": formatdate(state.expires, usegmt=True)}


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe=":#")


def _number_header(context: RequestContext, name: str) -> int:
    value = context.headers.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise InputError(f"The header {name.title()} must be a number of bytes, not {value[:50]!r}.", param=name)
    return int(value)


def _checksum(header: str) -> UploadChecksum | None:
    """Return the checksum of a part: the name of an algorithm, and a digest in base64; None without one.

    Raises:
        InputError: the header has another form, or the algorithm is unknown.
    """
    if not header:
        return None
    algorithm, _, value = header.strip().partition(" ")
    try:
        if algorithm in ALGORITHMS:
            return UploadChecksum(algorithm, base64.b64decode(value.strip(), validate=True))
    except (binascii.Error, ValueError):
        pass
    raise InputError(
        f"Upload-Checksum must be {' or '.join(ALGORITHMS)} and a digest in base64, not {header[:100]!r}.",
        param="upload-checksum",
    )


def _metadata(header: str) -> dict[str, str]:
    """Return the metadata of an upload: names, each with a value in base64.

    Raises:
        InputError: the header has another form.
    """
    if len(header) > _MAX_METADATA:
        raise InputError(f"Upload-Metadata has more than {_MAX_METADATA} characters.", param="upload-metadata")
    pairs = (pair.strip().partition(" ") for pair in header.split(",") if pair.strip())
    try:
        return {name: base64.b64decode(value.strip(), validate=True).decode() for name, _, value in pairs}
    except (binascii.Error, ValueError) as error:
        raise InputError(
            "Upload-Metadata must be names with values in base64, such as 'filename ZmlsbS5tcDQ='.",
            param="upload-metadata",
        ) from error
