"""Nearfield's API of management: models in memory, keys, live figures and reports."""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, shared_error_body
from nearfield.server.dialects.management.history import HISTORY_ROUTES
from nearfield.server.dialects.management.keys import KEY_ROUTES
from nearfield.server.dialects.management.models import MODEL_ROUTES
from nearfield.server.dialects.management.reports import REPORT_ROUTES
from nearfield.server.dialects.schemas import ErrorReply


class ManagementDialect:
    """Nearfield's API of management."""

    name = "manage"
    error_type = ErrorReply
    routes = (*MODEL_ROUTES, *KEY_ROUTES, *HISTORY_ROUTES, *REPORT_ROUTES)

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return the error body, the same as on the paths that several APIs share."""
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return shared_error_body(error, kind, getattr(error, "param", None))
