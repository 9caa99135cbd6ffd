"""`Reranker` and `Classifier`: models that read a text or a pair of texts and give a score for each label."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_count, require_optional_texts
from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.pairs import PairTokens
from nearfield.checkpoint.tokenizer.tokenizer import Truncate
from nearfield.engine.job import Ticket
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.features import TextFeatures
from nearfield.fused_features import FusedFeatures
from nearfield.heads import OutputRequest
from nearfield.inference.calls.keywords import (
    RerankCallKeywords,
    ReturnForm,
    ScoreHints,
    check_keywords,
    read_score_form,
)
from nearfield.inference.calls.limits import NO_LIMITS, CallLimits, TimedResult
from nearfield.inference.calls.prediction import Prediction
from nearfield.inference.calls.rerank_options import TRUNCATE, RerankKeywords, RerankOptions, activate
from nearfield.inference.encode_options import Unpack
from nearfield.inference.loaded_model import LoadedModel, LoadKeywords
from nearfield.inference.postprocess import COUNT_TYPE
from nearfield.inference.preparation.fused.pairs import FusedPrompted, create_pairs
from nearfield.inference.preparation.pair_inputs import PairPart, check_pairs, list_texts, pair_up, split_pairs
from nearfield.inference.preparation.tokenizer_threads import run_in_thread, runs_inline, tokenize_in_parts
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits
from nearfield.recipe import ClassScores, Recipe, RerankPrompt
from nearfield.text_inputs import one_or_many
from nearfield.vectors.annotated_array import AnnotatedArray, RowCounts, to_plain

ResultT = TypeVar("ResultT")

#: Pairs that are tokenised and queued together, so that memory stays bounded.
_WINDOW = 1024
_OPTIONS = RerankKeywords.__optional_keys__
#: Further keywords of asynchronous calls, for messages.
_ASYNC_KEYWORDS = ("bulk", "deadline", "max_tokens", "seconds_of")


@dataclass(frozen=True)
class Ranked:
    """One document of a ranking: its ``index`` in the documents of the call, and its score."""

    index: int
    score: float


class Scores(AnnotatedArray):
    """Scores: a NumPy array [n] or [n, labels], float32, with the numbers of tokens read, dropped and unknown.

    Slices, masks and lists of inputs, copies and pickles have the counts of their inputs; results of arithmetic and of
    all other functions are plain arrays.
    """

    __slots__ = ()

    def __new__(
        cls, data: ArrayLike, tokens: Array | None = None, dropped: Array | None = None, unknown: Array | None = None
    ) -> Scores:
        return cast(Scores, cls.annotate(np.asarray(data), RowCounts(tokens, dropped, unknown)))

    @property
    def data(self) -> Array:  # type: ignore[override]
        """The values as a plain array."""
        return cast(Array, to_plain(self))

    def column(self, label: int) -> Scores:
        """Return the scores [n] of one label."""
        return Scores(self.data[:, label], self.tokens, self.dropped, self.unknown)


class Scorer(LoadedModel):
    """Base class of Reranker and Classifier: pairs to tokens to logits to scores. Arguments as for ``Reranker``."""

    def __init__(
        self,
        model: str | UncompiledModel,
        *,
        instruction: str | None = None,
        **options: Unpack[LoadKeywords],
    ) -> None:
        check_keywords(type(self).__name__, options, LoadKeywords.__optional_keys__, ("instruction",))
        super().__init__(model, **options)
        require_optional_texts(instruction=instruction)
        self._arguments["instruction"] = instruction
        self._head = cast("ClassScores | RerankPrompt", self.recipe.head("scores"))
        template = self._head.template if isinstance(self._head, RerankPrompt) else None
        if instruction is not None and template is None:
            raise InputError(f"{self.name} takes no instruction: it has no template.", param="instruction")
        self._pairs = create_pairs(self._model, template, instruction)
        # The model's own, for the texts of pairs. A template has its own instruction.
        chosen = None if template else self.recipe.default_prompt_name
        self._default_prompt = self.recipe.prompts.get(chosen) if chosen else None

    @classmethod
    def check_kind(cls, recipe: Recipe) -> None:
        """Raise ModelRefused unless the model gives scores."""
        if "scores" not in recipe.outputs:
            raise ModelRefused(f"{recipe.name} gives vectors and no scores: load it as nearfield.Encoder.")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the scores, in order; a language model's single score is called ``relevance``."""
        return self._head.labels if isinstance(self._head, ClassScores) else ("relevance",)

    @property
    def fingerprint(self) -> str:
        """A digest of weights, tokenizer and settings: equal for models that give equal scores."""
        return self._model.space

    @property
    def activation(self) -> str:
        """The function applied to the model's logits unless a call selects another one."""
        return self._head.activation

    async def ascore(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds_of: dict[str, float] | None = None,
        **hints: Unpack[ScoreHints],
    ) -> Scores:
        """Score texts, or pairs of texts, without blocking the event loop; the scores are float32 [n, labels].

        Args:
            firsts: texts, or the first texts of pairs.
            seconds: the second texts of pairs.
            activation, truncate, adapter, prompt, max_length: as for ``Reranker.score``.
            bulk: run at low priority, behind interactive calls.
            deadline: seconds from now within which the result is needed.
            max_tokens: maximum number of tokens of all inputs together.
            seconds_of: a dictionary that receives the seconds of each stage: tokenise, queue, run.
            hints: as for ``Reranker.score``.

        Raises:
            Overloaded: the queue is full, or the deadline would pass before the result.
            TooLarge: the inputs have more than ``max_tokens`` tokens.
        """
        form = self._read_form("ascore", hints, _ASYNC_KEYWORDS)
        options = RerankOptions(activation, truncate, adapter, prompt, max_length)
        firsts = list_texts(firsts, "firsts")
        seconds = None if seconds is None else list_texts(seconds, "seconds")
        unread = UnreadInputs()
        run = await self.run_score(firsts, seconds, options, CallLimits(bulk, deadline, max_tokens), unread)
        return cast(Scores, form.convert(self._report(run, unread, seconds_of)))

    async def run_score(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str] | None,
        options: RerankOptions,
        limits: CallLimits = NO_LIMITS,
        unread: UnreadInputs | None = None,
    ) -> TimedResult[Scores]:
        """Run ``ascore`` with options as objects, and return the seconds of each stage too; nothing warns."""
        started, expires_at = time.monotonic(), limits.expires_at()
        check_pairs(firsts, seconds)
        sizes = list(map(len, firsts)) if seconds is None else self._pairs.sizes(firsts, seconds)
        inline = runs_inline(self.tokenizer, sizes)
        if inline:
            tokens = self._tokenize(firsts, seconds, options, 0, limits.media)
        else:
            self.engine.check_room()
            tokens = await tokenize_in_parts(
                lambda part: self._tokenize(
                    firsts[part], None if seconds is None else seconds[part], options, part.start, limits.media
                ),
                self.tokenizer,
                sizes,
                limits,
                expires_at,
                lambda item: len(item.ids),
            )
        ticket = self._create_ticket(tokens, options.adapter, bulk=limits.bulk, expires_at=expires_at)
        limits.admit([ticket])
        timings = {"tokenise": ticket.created - started}
        rows = await self.engine.run(ticket)
        if unread is not None:
            add = partial(self._count_unread, unread, firsts, seconds, tokens, options)
            add() if inline else await run_in_thread(add, self.tokenizer, None)
        return TimedResult(self._build_scores(tokens, rows, options.activation), timings | ticket.seconds)

    def _report(self, run: TimedResult[ResultT], unread: UnreadInputs, seconds_of: dict[str, float] | None) -> ResultT:
        unread.log(self.name)
        if seconds_of is not None:
            seconds_of.update(run.timings)
        return run.result

    def _read_form(
        self, method: str, hints: Mapping[str, Any], further: Sequence[str] = (), *, result: str | None = None
    ) -> ReturnForm:
        """Return the form of a call's scores; ``result`` is what it returns in place of scores.

        Raises:
            UnknownKeyword: it takes no such keyword.
            InputError: a value makes no sense, or it returns no scores that could become a tensor.
        """
        call = f"{type(self).__name__}.{method}"
        form = read_score_form(call, hints, further)
        if form.as_tensor and result is not None:
            raise InputError(
                f"{call} gives {result}, not a tensor. Leave convert_to_tensor out.", param="convert_to_tensor"
            )
        return form

    def _count_unread(
        self,
        unread: UnreadInputs,
        firsts: Sequence[str],
        seconds: Sequence[str] | None,
        tokens: Sequence[PairTokens],
        options: RerankOptions,
    ) -> None:
        if seconds is None:
            unread.add_pairs(self.tokenizer, firsts, tokens, self.tokenizer.frame_size(self._prompt_of(options) or ""))
        else:
            unread.add_pairs(self.tokenizer, seconds, tokens, self._pairs.frame)

    def _score(self, firsts: Sequence[str], seconds: Sequence[str] | None, options: RerankOptions) -> Scores:
        check_pairs(firsts, seconds)
        parts, unread = [], UnreadInputs()
        for start in range(0, len(firsts), _WINDOW):
            part = slice(start, start + _WINDOW)
            window = firsts[part], None if seconds is None else seconds[part]
            tokens = self._tokenize(*window, options, start)
            ticket = self.engine.submit(self._create_ticket(tokens, options.adapter, bulk=True), wait=True)
            parts.append(self._build_scores(tokens, ticket.result(), options.activation))
            self._count_unread(unread, *window, tokens, options)
        unread.log(self.name)
        if not parts:
            return self._build_scores([], [], options.activation)
        return cast(Scores, np.concatenate(parts))

    def _tokenize(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str] | None,
        options: RerankOptions,
        first_index: int = 0,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
    ) -> list[PairTokens]:
        truncate, prompt = options.truncate, self._prompt_of(options)
        if truncate not in TRUNCATE:
            raise InputError(f"Unknown truncate {truncate!r}. {nearest(truncate, TRUNCATE)}", param="truncate")
        places: Any = {"first_index": first_index, "max_length": options.max_length}
        if isinstance(self._pairs, FusedPrompted):
            places["limits"] = limits
        if seconds is not None:
            return self._pairs.encode(firsts, seconds, truncate=truncate, prompt=prompt, **places)
        policy = cast(Truncate | None, None if truncate == "report" else truncate)
        tokens = self.tokenizer.encode(firsts, truncate=policy, prompt=prompt or "", **places)
        return [PairTokens(item.ids, 0, item.dropped, item.unknown) for item in tokens]

    def _prompt_of(self, options: RerankOptions) -> str | None:
        return self._default_prompt if options.prompt is None else options.prompt

    def _create_ticket(
        self, tokens: list[PairTokens], adapter: str | None, *, bulk: bool, expires_at: float | None = None
    ) -> Ticket:
        number = self._model.adapter(self.default_adapter if adapter is None else adapter)
        requests = [OutputRequest(outputs=("scores",), second=item.second, adapter=number) for item in tokens]
        features = [item.features or TextFeatures(item.ids) for item in tokens]
        if any(isinstance(item, FusedFeatures) for item in features):
            self._model.load_media()
        return Ticket.create(self._model, features, None, requests, bulk=bulk, deadline=expires_at)

    def _build_scores(
        self, tokens: list[PairTokens], rows: Sequence[Mapping[str, Array]], activation: str | None
    ) -> Scores:
        logits = np.stack([row["scores"] for row in rows]) if rows else np.zeros((0, len(self.labels)), np.float32)
        return Scores(
            activate(logits, activation or self._head.activation),
            np.fromiter((len(item.ids) for item in tokens), COUNT_TYPE, len(tokens)),
            np.fromiter((item.dropped for item in tokens), COUNT_TYPE, len(tokens)),
            np.fromiter((item.unknown for item in tokens), COUNT_TYPE, len(tokens)),
        )


class Reranker(Scorer):
    """Scores how well documents answer a query: cross-encoders, and language models that answer yes or no.

    Args:
        model: as for ``Encoder``.
        instruction: the definition of relevance, for language models with a template (Qwen3-Reranker).
        answer: prompt and answer tokens of a language model (``recipe.RerankPrompt``), if neither its folder nor the
            catalogue has them.
        options: as for ``nearfield.load``.
    """

    def score(
        self,
        query: PairPart | Iterable[PairPart],
        documents: Iterable[PairPart],
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        **hints: Unpack[ScoreHints],
    ) -> Scores:
        """Score pairs: one query with each document, or as many queries as documents, pair by pair.

        Args:
            query: one query, or one for each document.
            documents: the texts to score. A model that reads pictures too takes them here and in queries, as
                ``Encoder.encode`` does: ``Image``, or ``{"text": ..., "image": ...}``.
            activation: identity, sigmoid, softmax or tanh, in place of the model's own.
            truncate: ``report`` (cut the end of an over-long pair, or the side that the model's folder names, and count
                it in ``Scores.dropped``) or ``error``.
            adapter: the name of a loaded adapter.
            prompt: text before each query; None for the model's default. A language model with a template reads it as
                its instruction.
            max_length: tokens to read of each pair, if fewer than the model reads.
            hints: ``convert_to_tensor`` returns a torch tensor; ``batch_size``, ``show_progress_bar``, ``num_workers``
                and ``convert_to_numpy`` are accepted as sentence-transformers has them, and change nothing.

        Returns:
            A NumPy array, float32 [n] if the model has one label, else [n, labels].

        Raises:
            InputError: an input is not a text, or the numbers of queries and documents differ.
        """
        form = self._read_form("score", hints)
        firsts, seconds = pair_up(query, documents, self.recipe)
        scores = self._score(firsts, seconds, RerankOptions(activation, truncate, adapter, prompt, max_length))
        return cast(Scores, form.convert(scores if len(self.labels) > 1 else scores.column(0)))

    def rank(
        self,
        query: PairPart,
        documents: Iterable[PairPart],
        *,
        top_k: int | None = None,
        **options: Unpack[RerankCallKeywords],
    ) -> list[Ranked]:
        """Return documents by falling score, the best ``top_k`` if set. Equal scores keep the order of the documents.

        Keywords are those of ``score``, without ``convert_to_tensor``.

        Raises:
            InputError: the model has several labels, or an input is not a text.
        """
        own = cast(RerankKeywords, {key: options[key] for key in _OPTIONS if key in options})  # type: ignore[literal-required]
        hints = {key: value for key, value in options.items() if key not in _OPTIONS}
        self._read_form("rank", hints, ("top_k",), result="a list of documents with their scores")
        if len(self.labels) > 1:
            raise InputError(f"{self.name} gives {len(self.labels)} scores a pair: use score, and rank by one of them.")
        return _best(self.score(query, documents, **own), top_k)

    async def arank(
        self,
        query: PairPart,
        documents: Sequence[PairPart],
        *,
        top_k: int | None = None,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds_of: dict[str, float] | None = None,
        **hints: Unpack[ScoreHints],
    ) -> tuple[list[Ranked], Scores]:
        """Rank without blocking the event loop; return the scores too. Keywords are those of ``ascore``."""
        form = self._read_form("arank", hints, ("top_k", *_ASYNC_KEYWORDS))
        options = RerankOptions(activation, truncate, adapter, prompt, max_length)
        unread = UnreadInputs()
        run = await self.run_rank(query, documents, top_k, options, CallLimits(bulk, deadline, max_tokens), unread)
        ranking, scores = self._report(run, unread, seconds_of)
        return ranking, form.convert(scores)

    async def run_rank(
        self,
        query: PairPart,
        documents: Sequence[PairPart],
        top_k: int | None,
        options: RerankOptions,
        limits: CallLimits = NO_LIMITS,
        unread: UnreadInputs | None = None,
    ) -> TimedResult[tuple[list[Ranked], Scores]]:
        """Run ``arank`` with options as objects, and return the seconds of each stage too; nothing warns."""
        if len(self.labels) > 1:
            raise InputError(f"{self.name} gives {len(self.labels)} scores a pair and cannot rank.", param="model")
        run = await self.run_score(*pair_up(query, documents, self.recipe), options, limits, unread)
        scores = run.result.column(0)
        return TimedResult((_best(scores, top_k), scores), run.timings)


class Classifier(Scorer):
    """Gives texts, or pairs of texts, a label: sentiment, topic, entailment. Arguments as for ``Reranker``."""

    def predict(
        self,
        texts: str | Iterable[str] | Iterable[tuple[str, str]],
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        **hints: Unpack[ScoreHints],
    ) -> Any:
        """Return a Prediction for each text or pair, or one for a single text.

        Scores are probabilities: a softmax over the labels, or a sigmoid each if the model allows several labels at
        once (``problem_type`` multi_label_classification) or has only one. ``activation`` replaces that. The other
        keywords are those of ``Reranker.score``, without ``convert_to_tensor``; a prompt comes before each text, or
        before the first of a pair.

        Raises:
            InputError: an input is neither a text nor a pair of texts.
        """
        self._read_form("predict", hints, result="labels with their scores")
        items = one_or_many(texts, pairs=True)
        single = isinstance(items, str)
        firsts, seconds = split_pairs([items] if single else items)
        options = RerankOptions(activation or self._probability(), truncate, adapter, prompt, max_length)
        predictions = self._predictions(self._score(firsts, seconds, options))
        return predictions[0] if single else predictions

    async def apredict(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        *,
        activation: str | None = None,
        truncate: str = "report",
        adapter: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        bulk: bool = False,
        deadline: float | None = None,
        max_tokens: int | None = None,
        seconds_of: dict[str, float] | None = None,
        **hints: Unpack[ScoreHints],
    ) -> tuple[list[Prediction], Scores]:
        """Predict without blocking the event loop; return the scores too. Keywords are those of ``ascore``."""
        form = self._read_form("apredict", hints, _ASYNC_KEYWORDS)
        options = RerankOptions(activation, truncate, adapter, prompt, max_length)
        unread = UnreadInputs()
        run = await self.run_predict(texts, options, CallLimits(bulk, deadline, max_tokens), unread)
        predictions, scores = self._report(run, unread, seconds_of)
        return predictions, form.convert(scores)

    async def run_predict(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        options: RerankOptions,
        limits: CallLimits = NO_LIMITS,
        unread: UnreadInputs | None = None,
    ) -> TimedResult[tuple[list[Prediction], Scores]]:
        """Run ``apredict`` with options as objects, and return the seconds of each stage too; nothing warns."""
        firsts, seconds = split_pairs(texts)
        if options.activation is None:
            options = replace(options, activation=self._probability())
        run = await self.run_score(firsts, seconds, options, limits, unread)
        return TimedResult((self._predictions(run.result), run.result), run.timings)

    def _probability(self) -> str:
        several = self.recipe.config.get("problem_type") == "multi_label_classification"
        return "sigmoid" if several or len(self.labels) == 1 else "softmax"

    def _predictions(self, scores: Scores) -> list[Prediction]:
        return [Prediction.from_scores(self.labels, row) for row in scores.data]


def _best(scores: Scores, top_k: int | None) -> list[Ranked]:
    if top_k is not None:
        require_count("top_k", top_k, 0)
    order = np.argsort(-scores.data, kind="stable")[:top_k]
    return [Ranked(int(index), float(scores.data[index])) for index in order]
