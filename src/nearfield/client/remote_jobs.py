"""`RemoteJobs`: jobs that a Nearfield server does: labels, topics, recommendations, outliers, drift, duplicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from nearfield.client.server_api import ApiCall, json_call
from nearfield.errors import InputError
from nearfield.text_inputs import many_texts

ReplyT = TypeVar("ReplyT")
#: The JSON of a reply, as ``/docs`` of the server describes it.
JobReply: TypeAlias = "dict[str, Any]"


class RemoteJobs(Generic[ReplyT]):
    """The jobs of a server, over texts or over a collection of the server: give one of both.

    Each method returns the JSON of the reply; those of ``AsyncClient`` are awaited.

    Args:
        send: sends a request, and returns its reply.
        model: the client's model; of a collection, its own is used.
    """

    def __init__(self, send: Callable[[ApiCall[Any]], ReplyT], model: str | None) -> None:
        self._send = send
        self._model = model

    def classify(
        self,
        texts: Sequence[str] | None = None,
        labels: Sequence[str] | Mapping[str, str] = (),
        *,
        collection: str | None = None,
        templates: Sequence[str] | None = None,
    ) -> ReplyT:
        """Label texts by the names of labels, or by their descriptions, as ``nearfield.classify`` does."""
        named = dict(labels) if isinstance(labels, Mapping) else many_texts(labels, "labels", "Label")
        return self._run("classify", texts, collection, {"labels": named, "templates": templates})

    def topics(self, texts: Sequence[str] | None = None, *, collection: str | None = None, **options: Any) -> ReplyT:
        """Find topics; the options are ``count``, ``method``, ``min_size`` and ``seed`` of ``find_topics``."""
        return self._run("topics", texts, collection, options)

    def recommend(
        self,
        texts: Sequence[str] | None = None,
        like: Sequence[str | int] = (),
        *,
        collection: str | None = None,
        **options: Any,
    ) -> ReplyT:
        """Recommend items; the options are ``ids``, ``unlike``, ``seen``, ``count``, ``diversity`` of ``recommend``."""
        return self._run("recommend", texts, collection, {"like": list(like), **options})

    def outliers(self, texts: Sequence[str] | None = None, *, collection: str | None = None, **options: Any) -> ReplyT:
        """Find what is unlike all else; the options are ``count`` and ``seed`` of ``find_outliers``."""
        return self._run("outliers", texts, collection, options)

    def drift(
        self,
        texts: Sequence[str],
        reference: Sequence[str] | None = None,
        *,
        collection: str | None = None,
        **options: Any,
    ) -> ReplyT:
        """Compare texts with older ones, or with a collection; the options are ``count`` and ``seed``."""
        listed = many_texts(texts, "texts")
        return self._run("drift", reference, collection, {"input": listed, **options}, field="reference")

    def duplicates(self, texts: Sequence[str], **options: Any) -> ReplyT:
        """Find copies among texts; the options are ``ids``, ``keep``, ``similarity``, ``by_meaning``, ``threshold``."""
        body = {"input": many_texts(texts, "texts"), **options}
        model = self._model if options.get("by_meaning") else None
        return self._send(json_call("POST", "/jobs/duplicates", _without_none({"model": model, **body})))

    def _run(
        self,
        job: str,
        texts: Sequence[str] | None,
        collection: str | None,
        body: Mapping[str, Any],
        field: str = "input",
    ) -> ReplyT:
        if (texts is None) == (collection is None):
            raise InputError("Give either texts or a collection.", param="texts")
        if collection is not None:
            return self._send(json_call("POST", f"/jobs/{job}/{quote(collection, safe='')}", _without_none(body)))
        sent = {"model": self._model, field: many_texts(texts, "texts"), **body}
        return self._send(json_call("POST", f"/jobs/{job}", _without_none(sent)))


def _without_none(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
