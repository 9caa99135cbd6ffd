"""`AttachedReranker` and `AttachedClassifier`: models of scores that a server computes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

import numpy as np

from nearfield.attach.attached_client import without_none
from nearfield.attach.attached_model import AttachedModel
from nearfield.attach.model_facts import check_load_options
from nearfield.attach.server_choice import read_files
from nearfield.client.inputs import body_inputs, to_body
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
from nearfield.reranker import Classifier, Reranker, Scorer, Scores

_COUNTS = ("tokens", "dropped", "unknown")
_OPTIONS = ("instruction", "max_length", "precision")


def attach_reranker(
    url: str, model: str | UncompiledModel, options: Mapping[str, Any], *, discovered: bool = False
) -> Reranker:
    """Return a reranker of a server; options are those of ``Reranker``. Raises as ``open_reranker`` does."""
    uncompiled, chosen = _read("Reranker", model, options)
    Reranker.check_kind(uncompiled.recipe)
    return AttachedReranker(uncompiled, url, discovered=discovered, **chosen)


def attach_classifier(
    url: str, model: str | UncompiledModel, options: Mapping[str, Any], *, discovered: bool = False
) -> Classifier:
    """Return a classifier of a server; options are those of ``Classifier``. Raises as ``open_classifier`` does."""
    uncompiled, chosen = _read("Classifier", model, options)
    Classifier.check_kind(uncompiled.recipe)
    return AttachedClassifier(uncompiled, url, discovered=discovered, **chosen)


def _read(
    class_name: str, model: str | UncompiledModel, options: Mapping[str, Any]
) -> tuple[UncompiledModel, dict[str, Any]]:
    check_keywords(class_name, options, LoadKeywords.__optional_keys__ | {"instruction"})
    check_load_options(options)
    return read_files(model, options), {name: options[name] for name in _OPTIONS if name in options}


class AttachedScorer(AttachedModel, Scorer):
    """A model of scores without weights: texts and pairs are sent to a server.

    Raises:
        InputError: an instruction for a model without a template.
    """

    def __init__(
        self,
        model: UncompiledModel,
        url: str,
        *,
        instruction: str | None = None,
        max_length: int | None = None,
        precision: str = "auto",
        discovered: bool = False,
    ) -> None:
        self._head = cast("ClassScores | RerankPrompt", model.recipe.head("scores"))
        self._attach(model, url, max_length, precision, discovered=discovered)
        self._arguments["instruction"] = self._instruction = instruction
        template = self._head.template if isinstance(self._head, RerankPrompt) else None
        if instruction is not None and template is None:
            raise InputError(f"{self.name} takes no instruction: it has no template.", param="instruction")
        self._pairs = create_pairs(self._model, template, instruction)
        chosen = None if template else self.recipe.default_prompt_name
        self._default_prompt = self.recipe.prompts.get(chosen) if chosen else None

    def _score(self, firsts: Sequence[Any], seconds: Sequence[Any] | None, options: RerankOptions) -> Scores:
        unread = UnreadInputs()
        scores = self._score_all(firsts, seconds, options, unread)
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
        scores = await self._in_thread(lambda: self._score_all(firsts, seconds, options, counter), limits)
        return TimedResult(scores, {"run": time.monotonic() - started})

    def _score_all(
        self, firsts: Sequence[Any], seconds: Sequence[Any] | None, options: RerankOptions, unread: UnreadInputs
    ) -> Scores:
        check_pairs(firsts, seconds)
        ranks = seconds is not None and len(self.labels) == 1
        parts = list(
            self._rank(firsts, cast(Any, seconds), options) if ranks else self._label(firsts, seconds, options)
        )
        if not parts:
            return self._build_scores([], [], options.activation)
        if any(np.any(part.unknown) for part in parts):
            self._count_unread(unread, firsts, seconds, self._tokenize(firsts, seconds, options), options)
        return cast(Scores, np.concatenate(parts))

    def _rank(self, queries: Sequence[Any], documents: Sequence[Any], options: RerankOptions) -> Iterator[Scores]:
        for at in _runs(queries):
            body, first = {"query": to_body(queries[at.start]), **self._body(options)}, at.start
            for batch in body_inputs(documents[at]):
                for reply in self._client.post_parts("/rank", body, "documents", batch, first):
                    yield _read_ranks(reply)
                first += len(batch)

    def _label(self, firsts: Sequence[Any], seconds: Sequence[Any] | None, options: RerankOptions) -> Iterator[Scores]:
        items = list(firsts) if seconds is None else list(zip(firsts, seconds, strict=True))
        for reply in self._client.post_parts("/classify", self._body(options), "input", items):
            yield _with_counts(np.array(reply["scores"], np.float32).reshape(-1, len(self.labels)), reply)

    def _body(self, options: RerankOptions) -> dict[str, object]:
        body = {
            "activation": options.activation or self.activation,
            "truncate": options.truncate,
            "adapter": options.adapter,
            "prompt": self._instruction if options.prompt is None else options.prompt,
            "max_length": self._sent_length(options.max_length),
        }
        return without_none(body.items())


class AttachedReranker(AttachedScorer, Reranker):
    """A reranker whose scores a server computes. Use ``open_reranker`` to create one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach_again, (attach_reranker, *self._state())


class AttachedClassifier(AttachedScorer, Classifier):
    """A classifier whose scores a server computes. Use ``open_classifier`` to create one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach_again, (attach_classifier, *self._state())


def _attach_again(attach: Any, url: str, model: str, options: Mapping[str, Any], discovered: bool) -> Any:
    return attach(url, model, options, discovered=discovered)


def _read_ranks(reply: Mapping[str, Any]) -> Scores:
    data = np.zeros((len(reply["results"]), 1), np.float32)
    for result in reply["results"]:
        data[result["index"]] = result["score"]
    return _with_counts(data, reply)


def _with_counts(data: Any, reply: Mapping[str, Any]) -> Scores:
    return Scores(data, *(np.array(reply[name], COUNT_TYPE) for name in _COUNTS))


def _runs(firsts: Sequence[Any]) -> Iterator[slice]:
    """Yield the pairs of neighbours with one query."""
    start = 0
    for _, group in groupby(firsts):
        stop = start + len(list(group))
        yield slice(start, stop)
        start = stop
