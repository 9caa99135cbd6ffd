"""Handlers of maps of collections and of searches for duplicates in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from nearfield.fileio.locks import LockedFile, release_lock
from nearfield.server.collections.surveys.passage_dump import (
    check_size,
    dump_passages,
    feature_table,
    require_libraries,
    state_digest,
)
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.dialects.collections.requests import collection_service, use_collection
from nearfield.server.dialects.collections.survey_schemas import DuplicatesRequest, MapRequest
from nearfield.server.files.file_threads import in_thread
from nearfield.server.http.request_context import RequestContext

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection


async def map_collection(request: MapRequest, context: RequestContext) -> JsonObject | Reply:
    """Return the map of a collection, or how far it is."""
    return await _survey(SurveyRequest("map", **msgspec.structs.asdict(request)), context)


async def find_duplicates(request: DuplicatesRequest, context: RequestContext) -> JsonObject | Reply:
    """Return the duplicates in a collection, or how far the search is."""
    return await _survey(SurveyRequest("duplicates", **msgspec.structs.asdict(request)), context)


async def _survey(options: SurveyRequest, context: RequestContext) -> JsonObject | Reply:
    """Return the result of a survey if it is stored; else begin it, unless it runs already, and return its progress."""
    require_libraries(options)
    request, folder = await use_collection(context, partial(_find_folder, options), models=False)
    surveys, name = collection_service(context).surveys, context.path["name"]
    if folder.result.exists():
        return Reply(_stream(folder.parts()))
    lock = await _begin(folder, context)
    if lock is not None:
        surveys.start(name, folder, lock, request, partial(_dump, request, folder, context))
    elif folder.result.exists():
        return Reply(_stream(folder.parts()))
    progress = await in_thread(folder.progress)
    return {"collection": name, "state": "running", "step": progress.step, "share": progress.share}


async def _begin(folder: SurveyFolder, context: RequestContext) -> LockedFile | None:
    lock = await use_collection(context, lambda _: folder.begin(), models=False)
    try:
        if lock is not None:
            collection_service(context).surveys.check_room()
    except BaseException:
        if lock is not None:
            folder.discard()  # each request may have other options: what they leave would grow without end
            release_lock(lock)
        raise
    return lock


async def _dump(request: SurveyRequest, folder: SurveyFolder, context: RequestContext) -> None:
    await use_collection(context, lambda collection: dump_passages(collection, request, folder), models=False)


def _find_folder(options: SurveyRequest, collection: Collection) -> tuple[SurveyRequest, SurveyFolder]:
    """Return the request with the feature that it means, and its folder. Raises as its checks."""
    check_size(collection, options)
    feature, _ = feature_table(collection, options.feature)
    request = msgspec.structs.replace(options, feature=feature)
    return request, SurveyFolder.of_request(collection.folder.path, state_digest(collection), request)


async def _stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    while part := await in_thread(next, parts, b""):
        yield part
