"""SIE's (Superlinked Inference Engine's) API, as its SDK uses it: https://github.com/superlinked/sie

Bodies are msgpack or JSON. Responses are msgpack unless Accept names JSON only; arrays in msgpack are the maps of
msgpack-numpy. Two things differ from SIE: ``int8`` and ``uint8`` have one scale for all vectors of a model, and an
option that would change vectors or scores, but is not supported here, is refused. Other unknown options are ignored,
and named in the header x-nearfield-ignored-fields.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import Reply, Route
from nearfield.server.dialects.sie.models import get_model, is_sdk_request, list_models
from nearfield.server.dialects.sie.requests import read_encode, read_score
from nearfield.server.dialects.sie.responses import error_reply, write_encode, write_score
from nearfield.server.dialects.sie.schemas import (
    SieEncodeReply,
    SieEncodeRequest,
    SieError,
    SieModel,
    SieModelList,
    SieScoreReply,
    SieScoreRequest,
)
from nearfield.server.http.request_body import JSON, MSGPACK

_MEDIA_TYPES = (MSGPACK, JSON)
_EXAMPLE = {"items": [{"id": "1", "text": "How tall is Mont Blanc?"}], "params": {"options": {"is_query": True}}}


class SieDialect:
    """SIE's API."""

    name = "sie"
    error_type = SieError
    routes = (
        Route(
            "/v1/encode/{model:path}",
            "Embed items",
            read_encode,
            write_encode,
            SieEncodeRequest,
            SieEncodeReply,
            example=_EXAMPLE,
            request_media=_MEDIA_TYPES,
            response_media=_MEDIA_TYPES,
        ),
        Route(
            "/v1/score/{model:path}",
            "Score items by a query",
            read_score,
            write_score,
            SieScoreRequest,
            SieScoreReply,
            request_media=_MEDIA_TYPES,
            response_media=_MEDIA_TYPES,
        ),
        Route(
            "/v1/models",
            "List the models",
            list_models,
            response_type=SieModelList,
            method="GET",
            matches=is_sdk_request,
        ),
        Route(
            "/v1/models/{model:path}",
            "Describe a model",
            get_model,
            response_type=SieModel,
            method="GET",
            matches=is_sdk_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Return SIE's error body, with the status and code that its SDK reads."""
        return error_reply(error)
