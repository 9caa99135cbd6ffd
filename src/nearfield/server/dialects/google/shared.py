"""What Gemini's and Vertex AI's APIs share: tasks, pictures, and the error body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from nearfield.errors import NearfieldError
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, message_of
from nearfield.server.exchange import EncodeKeywords
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription

TaskType = Literal[
    "TASK_TYPE_UNSPECIFIED",
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
]
_ROLES = {
    "RETRIEVAL_QUERY": "query",
    "QUESTION_ANSWERING": "query",
    "FACT_VERIFICATION": "query",
    "CODE_RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
}
#: Names of the tasks and prompts for a task type, in order of preference.
_TASK_NAMES: Mapping[str, tuple[str, ...]] = {
    "SEMANTIC_SIMILARITY": ("text-matching", "sts"),
    "CLASSIFICATION": ("classification",),
    "CLUSTERING": ("clustering", "separation"),
}
#: Google's name of a status: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GoogleErrorDetail(msgspec.Struct):
    """Status, message and name of an error."""

    code: int
    message: str
    status: str


class GoogleError(msgspec.Struct):
    """Body of an error response: https://cloud.google.com/apis/design/errors#http_mapping"""

    error: GoogleErrorDetail


def error_body(error: NearfieldError, dimensions: str) -> JsonObject:
    """Return Google's error body; ``dimensions`` is the API's field with the number of dimensions."""
    name = _STATUS_NAMES.get(error.status, "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": error.status, "message": message_of(error, dimensions=dimensions), "status": name}}


def choose_options(task_type: str | None) -> Callable[[ModelDescription], EncodeKeywords]:
    """Return a function that returns the role, or the model's own task, for a task type."""

    def choose(model: ModelDescription) -> EncodeKeywords:
        if task_type in _ROLES:
            return {"role": _ROLES[task_type]}
        names = {name.lower(): name for name in model.tasks}
        task = next((names[name] for name in _TASK_NAMES.get(task_type or "", ()) if name in names), None)
        return {} if task is None else {"task": task}

    return choose


def read_picture(data: str, context: RequestContext, name: str, field: str) -> Image:
    """Return the picture of a base64 text. Raises as ``picture_from_text`` does."""
    return picture_from_text(data, context.picture_limits, name, request_field=field)
