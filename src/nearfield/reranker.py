"""Reranker and Classifier: models that read one text or a pair of texts and give a score for each label."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.pairs import PairEncoder, PairTokens, Prompted
from nearfield.engine.engine import Ticket
from nearfield.errors import InputError, TooLarge, nearest
from nearfield.heads import OutputRequest
from nearfield.inference.loaded_model import LoadedModel, OtherKind, until
from nearfield.recipe import ClassScores, RerankPrompt

Array = np.ndarray[Any, np.dtype[Any]]
ACTIVATIONS = ("identity", "sigmoid", "softmax", "tanh")
TRUNCATE = ("report", "error")
#: Inputs below this many characters are tokenised where they are: a thread would cost more than it saves.
INLINE_CHARACTERS = 8_192
#: Pairs tokenised and queued at once: memory stays bounded however many there are.
_WINDOW = 1024


@dataclass(frozen=True)
class Ranked:
    """One document's place: its ``index`` in what was given, and its score."""

    index: int
    score: float


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores [n] or [n, labels], float32, with the tokens read of each input and those cut off."""

    data: Array
    tokens: Array
    dropped: Array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        data = self.data if dtype is None else self.data.astype(dtype)
        return data.copy() if copy else data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]


@dataclass(frozen=True)
class Prediction:
    """The likeliest label, its score, and the scores of all labels."""

    label: str
    score: float
    scores: dict[str, float]


class Scorer(LoadedModel):
    """What Reranker and Classifier share: pairs to tokens to logits to scores. Arguments as for ``Loaded``."""

    def __init__(
        self, model: str, *, instruction: str | None = None, answer: RerankPrompt | None = None, **options: Any
    ) -> None:
        super().__init__(model, answer=answer, **options)
        head: Any = self.recipe.head("scores")
        self._head: ClassScores | RerankPrompt = head
        self._classes = isinstance(head, ClassScores)
        template = head.template if isinstance(head, RerankPrompt) else None
        if instruction is not None and template is None:
            raise InputError(f"{self.name} takes no instruction: it has no template.", param="instruction")
        self._pairs: PairEncoder | Prompted = (
            Prompted(self.tokenizer, template, instruction) if template else PairEncoder(self.tokenizer)
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the scores, in order; a language model's single score is called ``relevance``."""
        return self._head.labels if isinstance(self._head, ClassScores) else ("relevance",)

    @property
    def fingerprint(self) -> str:
        """What tells its scores from another model's: a digest of weights, tokenizer and settings."""
        return self._model.space

    @property
    def activation(self) -> str:
        """What is applied to the model's numbers unless a call says otherwise."""
        return self._head.activation

    def _check_kind(self) -> None:
        if "scores" not in self.recipe.outputs:
            raise OtherKind(f"{self.name} gives vectors and no scores: load it as nearfield.Encoder.", 0)

    def _scores(self, tokens: list[PairTokens], rows: list[Any], activation: str | None) -> Scores:
        logits = np.stack([row["scores"] for row in rows]) if rows else np.zeros((0, len(self.labels)), np.float32)
        return Scores(
            activate(logits, activation or self._head.activation),
            np.fromiter((len(item.ids) for item in tokens), np.int64, len(tokens)),
            np.fromiter((item.dropped for item in tokens), np.int64, len(tokens)),
        )

    def _ticket(
        self, tokens: list[PairTokens], *, bulk: bool, until: float | None, adapter: str | None = None
    ) -> Ticket:
        number = self._model.adapter(self.default_adapter if adapter is None else adapter)
        extras = [OutputRequest(outputs=("scores",), second=item.second, adapter=number) for item in tokens]
        return Ticket.of(self._model, [item.ids for item in tokens], None, extras, bulk=bulk, deadline=until)

    def _run(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str] | None,
        truncate: str,
        activation: str | None,
        adapter: str | None,
    ) -> Scores:
        parts = []
        for start in range(0, len(firsts), _WINDOW):
            part = slice(start, start + _WINDOW)
            tokens = self._tokens(firsts[part], None if seconds is None else seconds[part], truncate)
            ticket = self.engine.submit(self._ticket(tokens, bulk=True, until=None, adapter=adapter), wait=True)
            parts.append(self._scores(tokens, ticket.result(), activation))
        if not parts:
            return self._scores([], [], activation)
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "tokens", "dropped")]
        return Scores(*columns)

    async def ascore(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds_of: dict[str, float] | None = None,
    ) -> Scores:
        """Score texts, or pairs of texts, without blocking the event loop; the scores are [n, labels].

        ``deadline`` is in seconds from now, ``max_tokens`` bounds all inputs together. ``seconds_of`` is given the
        seconds of each stage: tokenise, queue, run.

        Raises:
            Overloaded: the queue is full, or the deadline would pass first.
            TooLarge: more than ``max_tokens``.
        """
        started, latest = time.perf_counter(), until(deadline)
        if sum(map(len, (*firsts, *(seconds or ())))) > INLINE_CHARACTERS:
            self.engine.check_room()
            tokens = await asyncio.to_thread(self._tokens, firsts, seconds, truncate)
        else:
            tokens = self._tokens(firsts, seconds, truncate)
        tokenised = time.perf_counter() - started
        count = sum(len(item.ids) for item in tokens)
        if max_tokens is not None and count > max_tokens:
            raise TooLarge(
                f"The inputs have {count} tokens, where one request may have {max_tokens}. Send them in parts.",
                param="input",
            )
        ticket = self._ticket(tokens, bulk=bulk, until=latest, adapter=adapter)
        rows = await self.engine.run(ticket)
        if seconds_of is not None:
            seconds_of.update({"tokenise": tokenised, **ticket.seconds})
        return self._scores(tokens, rows, activation)

    def _tokens(self, firsts: Sequence[str], seconds: Sequence[str] | None, truncate: str) -> list[PairTokens]:
        if truncate not in TRUNCATE:
            raise InputError(f"Unknown truncate {truncate!r}. {nearest(truncate, TRUNCATE)}", param="truncate")
        if seconds is not None:
            return self._pairs.encode(firsts, seconds, truncate=truncate)
        policy: Any = "right" if truncate == "report" else truncate
        return [PairTokens(item.ids, 0, item.dropped) for item in self.tokenizer.encode(firsts, truncate=policy)]


class Reranker(Scorer):
    """Says how well documents answer a query: cross-encoders, and language models asked for yes or no.

    Args:
        model: as for ``Encoder``.
        instruction: what counts as relevant, for language models with a template (Qwen3-Reranker).
        answer: how a language model is to be asked (``recipe.Answer``), where neither its folder nor the catalogue
            says.
        options: as for ``Loaded``.
    """

    def score(
        self,
        query: str | Sequence[str],
        documents: Sequence[str],
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
    ) -> Scores:
        """Score pairs: one query with each document, or as many queries as documents, pair by pair.

        ``activation`` (identity, sigmoid, softmax) overrules the model's own. The result is [n] where the model has
        one label, else [n, labels].

        Raises:
            InputError: something is no text, or there are more queries than documents or fewer.
        """
        firsts, seconds = _paired(query, documents)
        scores = self._run(firsts, seconds, truncate, activation, adapter)
        return scores if len(self.labels) > 1 else Scores(scores.data[:, 0], scores.tokens, scores.dropped)

    def rank(self, query: str, documents: Sequence[str], *, top_k: int | None = None, **wanted: Any) -> list[Ranked]:
        """Return documents by falling score, the ``top_k`` best when given; equal scores keep their order.

        Raises:
            InputError: the model has several labels, or something is no text.
        """
        if len(self.labels) > 1:
            raise InputError(f"{self.name} gives {len(self.labels)} scores a pair: use score, and rank by one of them.")
        return _best(self.score(query, documents, **wanted), top_k)

    async def arank(
        self, query: str, documents: Sequence[str], *, top_k: int | None = None, **wanted: Any
    ) -> tuple[list[Ranked], Scores]:
        """Rank without blocking the event loop; returns the scores too. ``wanted`` are keywords of ``ascore``."""
        if len(self.labels) > 1:
            raise InputError(f"{self.name} gives {len(self.labels)} scores a pair and cannot rank.", param="model")
        scores = await self.ascore(*_paired(query, documents), **wanted)
        single = Scores(scores.data[:, 0], scores.tokens, scores.dropped)
        return _best(single, top_k), single


class Classifier(Scorer):
    """Gives texts, or pairs of texts, a label: sentiment, topic, entailment. Arguments as for ``Reranker``."""

    def predict(
        self,
        texts: str | Sequence[str] | Sequence[tuple[str, str]],
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
    ) -> Any:
        """Return a Prediction for each text or pair, or one for a single text.

        Scores are probabilities: a softmax over the labels, or a sigmoid each where the model allows several labels at
        once (``problem_type`` multi_label_classification) or has only one. ``activation`` overrules that.

        Raises:
            InputError: something is neither a text nor a pair of texts.
        """
        single = isinstance(texts, str)
        items = [texts] if isinstance(texts, str) else list(texts)
        firsts, seconds = _split(items)
        scores = self._run(firsts, seconds, truncate, activation or self._probability(), adapter)
        found = [self._prediction(row) for row in scores.data]
        return found[0] if single else found

    async def apredict(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, activation: str | None = None, **wanted: Any
    ) -> tuple[list[Prediction], Scores]:
        """Predict without blocking the event loop; returns the scores too. ``wanted`` are keywords of ``ascore``."""
        firsts, seconds = _split(list(texts))
        scores = await self.ascore(firsts, seconds, activation=activation or self._probability(), **wanted)
        return [self._prediction(row) for row in scores.data], scores

    def _probability(self) -> str:
        several = self.recipe.config.get("problem_type") == "multi_label_classification"
        return "sigmoid" if several or len(self.labels) == 1 else "softmax"

    def _prediction(self, row: Array) -> Prediction:
        best = int(row.argmax())
        scores = dict(zip(self.labels, row.tolist(), strict=True))
        return Prediction(self.labels[best], float(row[best]), scores)


def activate(logits: Array, name: str) -> Array:
    """Apply identity, sigmoid, softmax (over the last axis) or tanh, in float32.

    Raises:
        InputError: there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"Unknown activation {name!r}. {nearest(name, ACTIVATIONS)}", param="activation")
    if name == "sigmoid":
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    if name == "softmax":
        raised = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(raised / raised.sum(-1, keepdims=True))
    return np.tanh(logits) if name == "tanh" else logits


def _paired(query: str | Sequence[str], documents: Sequence[str]) -> tuple[list[str], list[str]]:
    if isinstance(documents, str):
        raise InputError("documents must be a list of texts, and is one text.", param="documents")
    queries = [query] * len(documents) if isinstance(query, str) else list(query)
    if len(queries) != len(documents):
        raise InputError(
            f"There are {len(queries)} queries and {len(documents)} documents: give one query, or one for each.",
            param="query",
        )
    return queries, list(documents)


def _split(items: list[Any]) -> tuple[list[str], list[str] | None]:
    """Tell texts from pairs; a mixture is refused."""
    pairs = [isinstance(item, (tuple, list)) and len(item) == 2 for item in items]
    if not any(pairs):
        return items, None
    if not all(pairs):
        raise InputError("Give texts or pairs of texts, not both at once.", param="input")
    return [first for first, _ in items], [second for _, second in items]


def _best(scores: Scores, top_k: int | None) -> list[Ranked]:
    if top_k is not None and top_k < 0:
        raise InputError(f"top_k must not be negative, and is {top_k}.", param="top_k")
    order = np.argsort(-scores.data, kind="stable")[:top_k]
    return [Ranked(int(index), float(scores.data[index])) for index in order]
