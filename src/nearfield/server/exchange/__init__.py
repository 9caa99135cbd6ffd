"""Exchange: what every dialect reads its requests into and writes its answers from, and the checks they share."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.encoder import Encoder
from nearfield.errors import InputError, TooLarge, WrongModel, nearest
from nearfield.inference.encode_options import resolve_prompt
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.postprocess import concatenate_results
from nearfield.reranker import Classifier, Prediction, Ranked, Reranker, Scorer, Scores
from nearfield.server.http.limits import Pace, RequestLimits
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.model_pool import ModelPool
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors

#: Seconds from which on the wait for a model is a stage of its own.
_NOTICEABLE = 0.001


@dataclass(frozen=True)
class Bounds:
    """What one request may cost; ``pace`` tells what this machine could do in the seconds that are left."""

    limits: RequestLimits
    seconds: float
    pace: Pace
    #: Whether the asker may use the model of a full id.
    allowed: Callable[[str], bool] = lambda _: True
    #: Whether it gives way to other requests however small it is.
    bulk: bool = False

    def most(self, model: LoadedModel) -> tuple[int, bool]:
        """Return the most tokens that may be taken, and whether it is time that bounds them, not the limits."""
        possible = self.pace.max_tokens(model.engine, self.seconds)
        hopeless = possible is not None and possible < self.limits.tokens
        return (possible if hopeless and possible is not None else self.limits.tokens), hopeless

    def options(self, model: LoadedModel, size: int) -> dict[str, Any]:
        """Return the keywords that bound a call: class, deadline, tokens."""
        most, _ = self.most(model)
        return {"bulk": self.bulk or size >= self.limits.bulk_items, "deadline": self.seconds, "max_tokens": most}


@dataclass(kw_only=True)
class Exchange(ABC):
    """One request in neutral form. The dialect fills ``model`` and ``reply`` (whatever its ``write`` needs).

    ``model`` None means the first model that fits. The server adds ``served`` and the answer.
    """

    model: str | None = None
    reply: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    served: LoadedModel | None = None
    #: The model that does it, set before ``check`` and ``run`` are called.
    description: ModelDescription | None = None
    #: Seconds for which a model that was loaded on demand stays when idle; negative: for good; None: as it was.
    keep_alive: float | None = None
    #: When it was read (``time.perf_counter``), and the seconds of its stages as far as known: tokenise, queue, run.
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    @abstractmethod
    def size(self) -> int:
        """How many inputs there are."""

    @property
    def tokens(self) -> int:
        """Tokens the model read."""
        return 0

    @property
    def dropped(self) -> int:
        """Tokens that were cut off."""
        return 0

    @property
    def numbers(self) -> int:
        """How many numbers the answer has, to tell what takes long to write."""
        return 0

    @property
    def fingerprint(self) -> str | None:
        """The space of the answer's vectors."""
        return None

    @abstractmethod
    def fits(self, model: ModelDescription) -> bool:
        """Return whether a model could do this."""

    @abstractmethod
    def check(self, limits: RequestLimits) -> None:
        """Refuse what no model could take, before any work is spent on it."""

    @abstractmethod
    async def run(self, model: Any, bounds: Bounds) -> None:
        """Do it, and keep the answer."""

    def misfit(self, model: ModelDescription) -> InputError:
        """Say why a model cannot do this."""
        return InputError(f"{model.name} cannot do this: it gives {', '.join(model.outputs)}.", param="model")


@dataclass(kw_only=True)
class Encode(Exchange):
    """Texts or token ids to vectors. ``wanted`` are keywords of ``Encoder.encode``."""

    inputs: Sequence[Any]
    wanted: Mapping[str, Any] = field(default_factory=dict)
    result: Vectors | SparseVectors | MultiVectors | Outputs | None = None
    #: Kinds of output that the reply cannot do without.
    needs: tuple[str, ...] = ("dense",)
    #: Gives those keywords that depend on what the model has.
    by_model: Callable[[Encoder], Mapping[str, Any]] | None = None
    #: Returns those keywords that depend on the model; takes the place of ``by_model``.
    options_for: Callable[[ModelDescription], Mapping[str, Any]] | None = None
    _counted: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        return len(self.inputs)

    @property
    def vectors(self) -> Vectors:
        """The dense vectors of the answer."""
        found = self.result.dense if isinstance(self.result, Outputs) else self.result
        if not isinstance(found, Vectors):
            raise ValueError("an Exchange without vectors cannot be written")
        return found

    @property
    def tokens(self) -> int:
        return self._totals()[0]

    @property
    def dropped(self) -> int:
        return self._totals()[1]

    def _totals(self) -> tuple[int, int]:
        """Return the tokens read and cut off; added up once, as metrics, headers, logs and bodies all ask."""
        if self._counted is None:
            if self.result is None:
                return 0, 0
            read, cut = (getattr(self.result, name, None) for name in ("tokens", "dropped"))
            self._counted = (0 if read is None else int(read.sum()), 0 if cut is None else int(cut.sum()))
        return self._counted

    @property
    def numbers(self) -> int:
        parts = [self.result] if not isinstance(self.result, Outputs) else list(self.result.kinds.values())
        arrays = [getattr(part, "values" if isinstance(part, SparseVectors) else "data", None) for part in parts]
        return sum(int(array.size) for array in arrays if array is not None)

    @property
    def fingerprint(self) -> str | None:
        return getattr(self.result, "fingerprint", None)

    def fits(self, model: ModelDescription) -> bool:
        return model.is_encoder and set(self.needs) <= set(model.outputs)

    def misfit(self, model: ModelDescription) -> InputError:
        if not model.is_encoder:
            return InputError(f"{model.name} scores texts and gives no vectors.", param="model")
        missing = next((name for name in self.needs if name not in model.outputs), None)
        if missing is None:
            return super().misfit(model)
        return InputError(
            f"{model.name} gives no {missing!r} output. {nearest(missing, model.outputs)}", param="outputs"
        )

    def check(self, limits: RequestLimits) -> None:
        check(self.inputs, limits)

    def options(self, model: Encoder, bounds: Bounds) -> dict[str, Any]:
        """Return all keywords of the call."""
        more = self.by_model(model) if self.by_model is not None else {}
        if self.options_for is not None:
            more = self.options_for(describe(model))
        return {**bounds.options(model, self.size), **self.wanted, **more}

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        self.result = await model.aencode(list(self.inputs), seconds=self.seconds, **self.options(model, bounds))


@dataclass(kw_only=True)
class EncodeLateChunks(Encode):
    """Documents, each a list of consecutive chunks, to vectors of the chunks, one after another (late chunking)."""

    @property
    def size(self) -> int:
        return sum(map(len, self.inputs))

    def check(self, limits: RequestLimits) -> None:
        check([chunk for chunks in self.inputs for chunk in chunks], limits)
        empty = next((index for index, chunks in enumerate(self.inputs) if not chunks), None)
        if empty is not None:
            raise InputError(f"Document {empty} has no chunks: give at least one text.", param="input")

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        self.result = concatenate_results(
            await model.aencode_late(self.inputs, **self.options(model, bounds)), single=False
        )


@dataclass(kw_only=True)
class Scored(Exchange):
    """What is answered with scores."""

    wanted: Mapping[str, Any] = field(default_factory=dict)
    #: Whether a reranker's scores are to lie between 0 and 1: a sigmoid where it would give its numbers as they are.
    bounded: bool = False
    scores: Scores | None = None

    @property
    def tokens(self) -> int:
        return 0 if self.scores is None else int(self.scores.tokens.sum())

    @property
    def dropped(self) -> int:
        return 0 if self.scores is None else int(self.scores.dropped.sum())


@dataclass(kw_only=True)
class Rank(Scored):
    """A query and documents to documents by falling score. ``wanted`` are keywords of ``Reranker.rank``."""

    query: str
    documents: Sequence[str]
    top_k: int | None = None
    #: What the API calls them, for messages.
    called: str = "documents"
    #: Most tokens that are read of each document; None: what the model reads.
    longest: int | None = None
    #: Tokens that were cut off because of it.
    cut: int = 0
    #: How many numbers each score is the sum of: the query's vectors in late interaction.
    summed: int = 1
    ranked: list[Ranked] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.documents)

    @property
    def dropped(self) -> int:
        return self.cut + super().dropped

    @property
    def numbers(self) -> int:
        return len(self.ranked)

    def fits(self, model: ModelDescription) -> bool:
        return "multivector" in model.outputs if model.is_encoder else model.is_reranker

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(
            f"{model.name} is no reranker: serve a cross-encoder, or a model of multi-vectors (late interaction).",
            param="model",
        )

    def check(self, limits: RequestLimits) -> None:
        check(self.documents, limits, self.called)
        _check_texts([self.query], "query")
        _check_texts(self.documents, self.called)

    async def run(self, model: Reranker | Encoder, bounds: Bounds) -> None:
        if self.longest is not None and self.longest < model.max_length:
            model.engine.check_room()
            shorten = model.tokenizer.shorten
            self.documents, self.cut = await asyncio.to_thread(shorten, self.documents, self.longest)
        if isinstance(model, Encoder):
            await self._late(model, bounds)
            return
        options = {**bounds.options(model, self.size), **self.wanted, "seconds_of": self.seconds}
        if self.bounded and model.activation == "identity":
            options.setdefault("activation", "sigmoid")
        self.ranked, self.scores = await model.arank(self.query, self.documents, top_k=self.top_k, **options)

    async def _late(self, model: Encoder, bounds: Bounds) -> None:
        """Rank by MaxSim (Khattab and Zaharia 2020, arXiv:2004.12832)."""
        options: Any = {**bounds.options(model, self.size), "outputs": "multivector"}
        # A sum of cosines has no activation.
        wanted = {name: value for name, value in self.wanted.items() if name in ("truncate", "adapter")}
        query, documents = await asyncio.gather(
            model.aencode([self.query], role="query", **options, **wanted),
            model.aencode(list(self.documents), role="document", **options, **wanted),
        )
        values = (await asyncio.to_thread(query.multivector.similarity, documents.multivector))[0]
        order = np.argsort(-values, kind="stable")[: self.top_k]
        self.ranked = [Ranked(int(index), float(values[index])) for index in order]
        self.scores = Scores(values, documents.tokens + int(query.tokens.sum()), documents.dropped)
        self.summed = 1 if query.multivector.average else len(query.multivector.data)


@dataclass(kw_only=True)
class Predict(Scored):
    """Texts, or pairs of texts, to labels and scores. ``wanted`` are keywords of ``Classifier.predict``."""

    inputs: Sequence[Any]
    predictions: list[Prediction] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.inputs)

    @property
    def numbers(self) -> int:
        return 0 if self.scores is None else int(self.scores.data.size)

    def fits(self, model: ModelDescription) -> bool:
        return not model.is_encoder

    def misfit(self, model: ModelDescription) -> InputError:
        return InputError(f"{model.name} is no classifier: it gives {', '.join(model.outputs)}.", param="model")

    def check(self, limits: RequestLimits) -> None:
        check(self.inputs, limits, "inputs")

    async def run(self, model: Scorer, bounds: Bounds) -> None:
        options = {**bounds.options(model, self.size), **self.wanted, "seconds_of": self.seconds}
        if isinstance(model, Classifier):
            self.predictions, self.scores = await model.apredict(self.inputs, **options)
            return
        firsts, seconds = _pairs(self.inputs, model)
        if self.bounded:
            options.setdefault("activation", "sigmoid")
        self.scores = await model.ascore(firsts, seconds, **options)
        self.predictions = [
            Prediction(model.labels[0], float(row[0]), {model.labels[0]: float(row[0])}) for row in self.scores.data
        ]


@dataclass(kw_only=True)
class Tokenize(Exchange):
    """Anything that a model's tokenizer does at once: ``write`` asks ``served.tokenizer`` itself."""

    texts: Sequence[str] = ()
    #: Token ids to turn back into texts.
    ids: Sequence[Sequence[int]] = ()
    #: Name of the prompt that is put before each text; None: the model's default.
    prompt_name: str | None = None
    #: The model's tokenizer and the text of the prompt, set by ``run``.
    tokenizer: Tokenizer | None = None
    prompt: str = ""

    @property
    def size(self) -> int:
        return len(self.texts) + len(self.ids)

    @property
    def numbers(self) -> int:
        return sum(map(len, self.texts)) + sum(map(len, self.ids))

    def fits(self, model: ModelDescription) -> bool:  # noqa: ARG002 - every model has a tokenizer
        return True

    def check(self, limits: RequestLimits) -> None:
        if self.size > limits.items:
            raise TooLarge(f"{self.size} inputs, where one request may hold {limits.items}. Send them in parts.")

    async def run(self, model: LoadedModel, bounds: Bounds) -> None:  # noqa: ARG002 - nothing to bound
        """Make the model's tokenizer available to ``write``.

        Raises:
            InputError: the model has no prompt of that name.
        """
        self.tokenizer = model.tokenizer
        if self.texts:
            self.prompt = resolve_prompt(model.recipe, self.prompt_name, None, None)


@dataclass(kw_only=True)
class CompositeExchange(Exchange):
    """Requests that came as one, each for its own model: all are done, or the first error is the answer."""

    parts: Sequence[Exchange]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)

    @property
    def dropped(self) -> int:
        return sum(part.dropped for part in self.parts)

    @property
    def numbers(self) -> int:
        return sum(part.numbers for part in self.parts)

    def fits(self, model: ModelDescription) -> bool:
        return all(part.fits(model) for part in self.parts)

    def check(self, limits: RequestLimits) -> None:
        for part in self.parts:
            part.check(limits)
        if self.size > limits.items:
            raise TooLarge(f"{self.size} inputs, where one request may hold {limits.items}. Send them in parts.")

    async def run(self, model: LoadedModel, bounds: Bounds) -> None:
        raise NotImplementedError("its parts run, each with its own model")


async def perform(exchange: Exchange, models: ModelPool, bounds: Bounds) -> Exchange:
    """Check the request against the limits, do it in the time that is left, and attach the answer.

    Raises:
        TooLarge: it has more tokens than it may, or than this machine could ever do in time.
        NearfieldError: of the kind that the dialect's ``refuse`` turns into a reply.
    """
    if isinstance(exchange, CompositeExchange):
        exchange.check(bounds.limits)
        await _together([perform(part, models, bounds) for part in exchange.parts])
        return exchange
    asked = time.perf_counter()
    async with models.use(exchange.model, exchange.fits, exchange.keep_alive, bounds.allowed) as model:
        exchange.served = model
        exchange.description = description = describe(model)
        if (waited := time.perf_counter() - asked) > _NOTICEABLE:
            exchange.seconds["load"] = waited
        if not exchange.fits(description):
            misfit = exchange.misfit(description)
            raise WrongModel(str(misfit), param=misfit.param)
        exchange.check(bounds.limits)
        try:
            await exchange.run(model, bounds)
        except TooLarge as error:
            if not bounds.most(model)[1]:
                raise
            raise TooLarge(
                f"{error} More could not be done within {bounds.limits.seconds:g} s (request_timeout) on this machine "
                "even if it had nothing else to do.",
                param=error.param,
            ) from error
    return exchange


async def _together(tasks: list[Any]) -> None:
    """Await all; the first error cancels the others, so that nothing goes on for a request that has failed."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def check(inputs: Sequence[Any], limits: RequestLimits, called: str = "input") -> None:
    """Refuse no inputs, too many, and empty lists of token ids."""
    if not inputs:
        raise InputError(f"{called} is empty: give at least one text or list of token ids.", param=called)
    if len(inputs) > limits.items:
        raise TooLarge(
            f"{len(inputs)} inputs, where one request may hold {limits.items}. Send them in parts.", param=called
        )
    for index, item in enumerate(inputs):
        if not isinstance(item, str) and not item:
            raise InputError(f"Input {index} is an empty list of token ids.", param=called)


def _check_texts(texts: Sequence[Any], called: str) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{called} {index} is {type(text).__name__}, not text.", param=called)


def _pairs(inputs: Sequence[Any], model: LoadedModel) -> tuple[list[str], list[str]]:
    if not all(isinstance(item, (list, tuple)) and len(item) == 2 for item in inputs):
        raise InputError(f"{model.name} scores pairs of texts: give pairs.", param="inputs")
    return [first for first, _ in inputs], [second for _, second in inputs]
