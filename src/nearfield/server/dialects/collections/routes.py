"""Nearfield's API of collections: search, answers, and the documents in them.

A server serves the collections that its operator names (``--collections``), and no others. Searching and reading need
the scope ``infer``. Changing a collection needs ``manage``, or, on a server without keys, a request from the same
machine. The server's settings determine where vectors are stored, which files are read and which chat endpoint is used:
a request cannot.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.collections.document_renderings import THUMBNAIL_TYPES
from nearfield.server.dialects import JsonObject, Route
from nearfield.server.dialects.collections.query_parts import read_search_form
from nearfield.server.dialects.collections.renderings import get_clip, get_thumbnail
from nearfield.server.dialects.collections.requests import (
    SSE_TYPE,
    ask,
    create_collection,
    delete_documents,
    describe_collection,
    drop_collection,
    list_chunks,
    list_collections,
    list_documents,
    put_documents,
    read_document,
    search,
)
from nearfield.server.dialects.collections.responses import error_body
from nearfield.server.dialects.collections.schemas import (
    AskReply,
    AskRequest,
    ChunkList,
    CollectionFileForm,
    CollectionList,
    CollectionName,
    CollectionReply,
    CollectionRequest,
    DeletedReply,
    DeleteRequest,
    DocumentList,
    DocumentReply,
    DocumentsReply,
    DocumentsRequest,
    SearchForm,
    SearchReply,
    SearchRequest,
    UploadReply,
)
from nearfield.server.dialects.collections.survey_schemas import (
    DuplicatesReply,
    DuplicatesRequest,
    MapReply,
    MapRequest,
)
from nearfield.server.dialects.collections.surveys import find_duplicates, map_collection
from nearfield.server.dialects.collections.uploads import (
    OFFSET_STREAM,
    continue_upload,
    create_upload,
    delete_upload,
    describe_protocol,
    describe_upload,
    upload_file,
)
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.http.request_body import JSON, MSGPACK

_COLLECTION_PATH = "/collections/{name}"
_UPLOAD_PATH = f"{_COLLECTION_PATH}/uploads/{{upload}}"
_SEARCH_EXAMPLE = {"query": "how do I rotate keys?", "k": 5}
_DOCUMENTS_EXAMPLE = [{"id": "keys", "text": "Keys are rotated with the rotate command.", "title": "Keys"}]


class CollectionsDialect:
    """Nearfield's API of collections."""

    name = "collections"
    error_type = ErrorReply
    routes = (
        Route(
            "/collections",
            "List the collections",
            list_collections,
            response_type=CollectionList,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            "/collections",
            "Create an empty collection",
            create_collection,
            request_type=CollectionRequest,
            response_type=CollectionReply,
            example={"name": "handbook", "fields": {"year": "int"}},
            scope="manage",
        ),
        Route(
            _COLLECTION_PATH,
            "Describe a collection",
            describe_collection,
            response_type=CollectionReply,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            _COLLECTION_PATH,
            "Remove a collection",
            drop_collection,
            response_type=CollectionName,
            method="DELETE",
            scope="manage",
        ),
        Route(
            f"{_COLLECTION_PATH}/search",
            "Find the passages that best match a query",
            search,
            request_type=SearchRequest,
            response_type=SearchReply,
            example=_SEARCH_EXAMPLE,
            request_media=(JSON, MSGPACK),
            read_form=read_search_form,
            form_type=SearchForm,
        ),
        Route(
            f"{_COLLECTION_PATH}/ask",
            "Answer a question from the passages that best match it",
            ask,
            request_type=AskRequest,
            response_type=AskReply,
            example={"question": "how do I rotate keys?", "stream": False},
            response_media=(JSON, SSE_TYPE),
        ),
        Route(
            f"{_COLLECTION_PATH}/map",
            "Place passages or documents in two dimensions, with names of regions",
            map_collection,
            request_type=MapRequest,
            response_type=MapReply,
            example={"of": "passages"},
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/duplicates",
            "Find passages or documents that repeat others",
            find_duplicates,
            request_type=DuplicatesRequest,
            response_type=DuplicatesReply,
            example={"of": "documents", "meaning": True},
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/documents",
            "List documents",
            list_documents,
            response_type=DocumentList,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/documents",
            "Add documents, or replace those with the same ids",
            put_documents,
            request_type=DocumentsRequest,
            response_type=DocumentsReply,
            example={"documents": _DOCUMENTS_EXAMPLE},
            scope="manage",
        ),
        Route(
            f"{_COLLECTION_PATH}/files",
            "Send files, which become documents",
            upload_file,
            request_type=CollectionFileForm,
            response_type=UploadReply,
            scope="manage",
            upload=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/uploads",
            "Describe resumable uploads (tus 1.0)",
            describe_protocol,
            status=204,
            method="OPTIONS",
            public=True,
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/uploads",
            "Begin a resumable upload (tus 1.0)",
            create_upload,
            status=201,
            scope="manage",
            rate_limit_exempt=True,
        ),
        Route(
            _UPLOAD_PATH,
            "Say how much of an upload has arrived",
            describe_upload,
            method="HEAD",
            scope="manage",
            rate_limit_exempt=True,
        ),
        Route(
            _UPLOAD_PATH,
            "Continue an upload (application/offset+octet-stream); the file is indexed once it is complete",
            continue_upload,
            status=204,
            method="PATCH",
            scope="manage",
            request_media=(OFFSET_STREAM,),
            upload=True,
        ),
        Route(
            _UPLOAD_PATH,
            "End an upload, and remove what has arrived",
            delete_upload,
            status=204,
            method="DELETE",
            scope="manage",
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/documents/delete",
            "Remove documents",
            delete_documents,
            request_type=DeleteRequest,
            response_type=DeletedReply,
            example={"documents": ["keys"]},
            scope="manage",
        ),
        Route(
            f"{_COLLECTION_PATH}/document",
            "Read a document (?id=)",
            read_document,
            response_type=DocumentReply,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/document/chunks",
            "List the chunks of a document (?id=&first=&limit=)",
            list_chunks,
            response_type=ChunkList,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            f"{_COLLECTION_PATH}/document/thumbnail",
            "Show a document: a picture, a page or a second (?id=&page=&time=&size=&format=)",
            get_thumbnail,
            method="GET",
            rate_limit_exempt=True,
            response_media=tuple(THUMBNAIL_TYPES.values()),
        ),
        Route(
            f"{_COLLECTION_PATH}/document/clip",
            "Return a part of a sound or video (?id=&start=&end=&format=)",
            get_clip,
            method="GET",
            rate_limit_exempt=True,
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return the error body, the same as on the paths that several APIs share."""
        return error_body(error)
