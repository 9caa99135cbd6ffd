"""`AttachedReranker`: a reranker whose scores a server computes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

import numpy as np

from nearfield.attach import SERVER_VARIABLE
from nearfield.attach.attached_client import without_none
from nearfield.attach.attached_model import AttachedModel
from nearfield.attach.model_facts import check_load_options, read_uncompiled
from nearfield.client.inputs import to_body
from nearfield.errors import InputError
from nearfield.inference.calls.keywords import check_keywords
from nearfield.inference.calls.limits import NO_LIMITS, CallLimits, TimedResult
from nearfield.inference.calls.rerank_options import RerankOptions
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.postprocess import COUNT_TYPE
from nearfield.inference.preparation.fused.pairs import create_pairs
from nearfield.inference.preparation.pair_inputs import check_pairs
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.recipe import ClassScores, RerankPrompt
from nearfield.reranker import Reranker, Scores

#: Documents in one request.
_DOCUMENTS = 64
_COUNTS = ("tokens", "dropped", "unknown")


def attach_reranker(url: str, model: str | UncompiledModel, options: Mapping[str, Any]) -> AttachedReranker:
    """Return a reranker of a server; options are those of ``Reranker``. Raises as ``open_reranker`` does."""
    check_keywords("Reranker", options, LoadKeywords.__optional_keys__ | {"instruction"})
    check_load_options(options)
    uncompiled = read_uncompiled(model, options)
    Reranker.check_kind(uncompiled.recipe)
    names = ("max_length", "precision")
    return AttachedReranker(uncompiled, url, **{name: options[name] for name in names if name in options})


class AttachedReranker(AttachedModel, Reranker):
    """A reranker without weights: pairs are sent to a server. Use ``open_reranker`` to create one.

    Raises:
        InputError: the model has several labels: it is a classifier, which has to be loaded.
    """

    def __init__(
        self, model: UncompiledModel, url: str, *, max_length: int | None = None, precision: str = "auto"
    ) -> None:
        self._head = cast("ClassScores | RerankPrompt", model.recipe.head("scores"))
        if len(self.labels) > 1:
            raise InputError(
                f"{model.recipe.name} gives {len(self.labels)} scores and cannot be attached to a server: unset "
                f"{SERVER_VARIABLE} to load it here.",
                param="model",
            )
        self._attach(model, url, max_length, precision)
        template = self._head.template if isinstance(self._head, RerankPrompt) else None
        self._pairs = create_pairs(self._model, template, None)
        chosen = None if template else self.recipe.default_prompt_name
        self._default_prompt = self.recipe.prompts.get(chosen) if chosen else None

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = dict(self._arguments)
        return attach_reranker, (self._client.url, arguments.pop("model"), arguments)

    def _score(self, firsts: Sequence[Any], seconds: Sequence[Any] | None, options: RerankOptions) -> Scores:
        unread = UnreadInputs()
        scores = self._score_pairs(firsts, seconds, options, unread)
        unread.log(self.name)
        return scores

    async def run_score(
        self,
        firsts: Sequence[Any],
        seconds: Sequence[Any] | None,
        options: RerankOptions,
        limits: CallLimits = NO_LIMITS,
        unread: UnreadInputs | None = None,
    ) -> TimedResult[Scores]:
        """Run ``ascore`` with options as objects; the requests are sent from a thread."""
        started, counter = time.monotonic(), UnreadInputs() if unread is None else unread
        scores = await self._in_thread(lambda: self._score_pairs(firsts, seconds, options, counter), limits)
        return TimedResult(scores, {"run": time.monotonic() - started})

    def _score_pairs(
        self, firsts: Sequence[Any], seconds: Sequence[Any] | None, options: RerankOptions, unread: UnreadInputs
    ) -> Scores:
        check_pairs(firsts, seconds)
        self._check_options(seconds, options)
        assert seconds is not None
        parts = [self._rank_part(firsts[at.start], seconds[at], options, at.start) for at in _parts(firsts)]
        if not parts:
            return self._build_scores([], [], options.activation)
        if any(np.any(part.unknown) for part in parts):
            self._count_unread(unread, firsts, seconds, self._tokenize(firsts, seconds, options), options)
        return cast(Scores, np.concatenate(parts))

    def _rank_part(self, query: Any, documents: Sequence[Any], options: RerankOptions, first: int) -> Scores:
        body = {"query": to_body(query), "documents": list(map(to_body, documents)), "adapter": options.adapter}
        body |= {"activation": options.activation or self.activation, "truncate": options.truncate}
        reply = self._client.post("/rank", without_none(body.items()), first)
        data = np.zeros((len(documents), 1), np.float32)
        for result in reply["results"]:
            data[result["index"]] = result["score"]
        return Scores(data, *(np.array(reply[name], COUNT_TYPE) for name in _COUNTS))

    def _check_options(self, seconds: object, options: RerankOptions) -> None:
        for name in ("prompt", "max_length"):
            if getattr(options, name) is not None:
                self._refuse(name)
        if seconds is None:
            raise InputError(f"{self.name} is attached to a server, which scores pairs: pass seconds.", param="seconds")


def _parts(firsts: Sequence[Any]) -> Iterator[slice]:
    """Yield the pairs of each request: neighbours with one query."""
    start = 0
    for _, group in groupby(firsts):
        stop = start + len(list(group))
        yield from (slice(at, min(at + _DOCUMENTS, stop)) for at in range(start, stop, _DOCUMENTS))
        start = stop
