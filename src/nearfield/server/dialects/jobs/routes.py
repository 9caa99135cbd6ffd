"""Nearfield's API of jobs: over texts, and over the documents of a collection with the vectors that it has.

``docs/guides/jobs.md`` says what they do. Texts of a request are embedded, then its work runs in one of two threads.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Route, shared_error_body
from nearfield.server.dialects.jobs import requests, schemas
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.exchange import VectorJob

_TEXTS = ["I lost my card", "my card was stolen", "what is the rate of the euro", "how many dollars for a euro"]
_MANY = [f"{text}, question {number}" for number in range(3) for text in _TEXTS]


def write_job(exchange: VectorJob) -> JsonObject:
    """Return the outcome of a job with the model and the tokens."""
    model = exchange.description.name if exchange.description is not None else None
    return {"model": model, "usage": {"tokens": exchange.tokens, "dropped": exchange.dropped}, **exchange.outcome}


class JobsDialect:
    """Nearfield's API of jobs."""

    name = "jobs"
    error_type = ErrorReply
    routes = (
        Route(
            "/jobs/classify",
            "Label texts by the names or descriptions of labels",
            requests.read_labels,
            write_job,
            schemas.LabelRequest,
            schemas.LabelReply,
            example={"input": _TEXTS[:2], "labels": {"card": "my card is lost", "rate": "what is the exchange rate"}},
        ),
        Route(
            "/jobs/classify/{collection}",
            "Label the documents of a collection",
            requests.read_collection_labels,
            write_job,
            schemas.LabelOptions,
            schemas.LabelReply,
            example={"labels": ["card", "rate"]},
        ),
        Route(
            "/jobs/topics",
            "Find what texts are about",
            requests.read_topics,
            write_job,
            schemas.TopicRequest,
            schemas.TopicReply,
            example={"input": _MANY, "count": 2},
        ),
        Route(
            "/jobs/topics/{collection}",
            "Find what the documents of a collection are about",
            requests.read_collection_topics,
            write_job,
            schemas.TopicOptions,
            schemas.TopicReply,
            example={},
        ),
        Route(
            "/jobs/recommend",
            "Recommend items like some and unlike others",
            requests.read_recommend,
            write_job,
            schemas.RecommendRequest,
            schemas.RecommendReply,
            example={"input": _TEXTS, "like": [0], "count": 2},
        ),
        Route(
            "/jobs/recommend/{collection}",
            "Recommend documents of a collection",
            requests.read_collection_recommend,
            write_job,
            schemas.RecommendOptions,
            schemas.RecommendReply,
            example={"like": ["keys"]},
        ),
        Route(
            "/jobs/outliers",
            "Find texts that are unlike all others",
            requests.read_outliers,
            write_job,
            schemas.OutlierRequest,
            schemas.OutlierReply,
            example={"input": _MANY, "count": 3},
        ),
        Route(
            "/jobs/outliers/{collection}",
            "Find documents of a collection that are unlike all others",
            requests.read_collection_outliers,
            write_job,
            schemas.OutlierOptions,
            schemas.OutlierReply,
            example={},
        ),
        Route(
            "/jobs/drift",
            "Say how new texts differ from older ones",
            requests.read_drift,
            write_job,
            schemas.DriftRequest,
            schemas.DriftReply,
            example={"reference": _MANY, "input": _MANY},
        ),
        Route(
            "/jobs/drift/{collection}",
            "Say how texts differ from the documents of a collection",
            requests.read_collection_drift,
            write_job,
            schemas.CollectionDriftRequest,
            schemas.DriftReply,
            example={"input": _MANY},
        ),
        Route(
            "/jobs/duplicates",
            "Find copies among texts",
            requests.read_duplicates,
            write_job,
            schemas.DuplicateRequest,
            schemas.DuplicateReply,
            example={"input": [*_TEXTS, _TEXTS[0].upper()]},
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return the error body, the same as on the paths that several APIs share."""
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return shared_error_body(error, kind, getattr(error, "param", None))
