"""Fit a query map to data, choose its strength on a part of them, and prove it on another part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nearfield import __version__
from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError, nearest
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.significance import paired_test
from nearfield.message_text import count_of
from nearfield.training.leaks import describe_leaks, find_leaks
from nearfield.training.light.query_regression import (
    first_ranks,
    gains,
    identity_ridge,
    mean_gain,
    ranking_matrix,
    strongest_of_equals,
)
from nearfield.training.light.vector_sets import VectorSystem, by_text, encode_full
from nearfield.training.overlap.normalised import normalise
from nearfield.training.splitting import split_by_source
from nearfield.training.training_data import TrainingData
from nearfield.vectors.vector_map import VectorMap

Method = Literal["auto", "meaning", "ranking"]
METHODS = ("auto", "meaning", "ranking")
#: Queries with a document below which no part is large enough to choose and to prove anything.
MIN_QUERIES = 50
#: Shares of texts with the same meaning: the longer side has at most so many times the characters, in the median.
MAX_LENGTH_RATIO = 2.0


@dataclass(frozen=True)
class MapSettings:
    """How a query map is fitted.

    Args:
        method: ``meaning`` regresses queries onto texts of the same meaning (translations, paraphrases); ``ranking``
            minimises a softmax loss over documents, for questions and their answers. ``auto`` decides by the data.
        dev_share: share of the sources that choose the strength.
        test_share: share of the sources that prove the map, if there is no separate test.
        seed: of the split and of random draws.
        allow_leaks: fit although texts of the test are in the data; the figures then say so.
    """

    method: Method = "auto"
    dev_share: float = 0.2
    test_share: float = 0.3
    seed: int = 1
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"Unknown method {self.method!r}. {nearest(self.method, METHODS)}", param="method")
        for name in ("dev_share", "test_share"):
            value = getattr(self, name)
            if not 0.05 <= value <= 0.6:
                raise InputError(f"{name} is a share from 0.05 to 0.6, not {value!r}.", param=name)


@dataclass(frozen=True)
class QueryMapProof:
    """A query map, and what it changes on a test that had no part in fitting it.

    ``before`` and ``after`` are results of ``evaluate``, ``comparison`` is that of ``paired_test`` (after minus
    before). ``choice`` has the method, why it was taken, the strength, and the figures on the dev part.
    """

    query_map: VectorMap
    before: JsonDict
    after: JsonDict
    comparison: JsonDict
    choice: JsonDict

    @property
    def is_better(self) -> bool:
        """Whether the test says that the map is better: p below 0.05 and an interval above 0."""
        return bool(self.comparison["significant"]) and self.comparison["interval"][0] > 0

    def to_dict(self) -> JsonDict:
        """Return figures as JSON data, without those of single queries."""
        figures = {name: _figure(getattr(self, name)) for name in ("before", "after")}
        return {**figures, "comparison": self.comparison, "better": self.is_better, "choice": self.choice}

    def to_text(self) -> str:
        """Return the figures as lines for a terminal."""
        low, high = self.comparison["interval"]
        choice, main = self.choice, self.before["main"]
        verdict = "better" if self.is_better else "not better"
        fitted = (
            f"{choice['queries']} by {choice['method']} ({choice['reason']}); strength {choice['strength']:g}, "
            f"{main} on the dev part {choice['dev_before']:.1f} -> {choice['dev_after']:.1f}"
        )
        difference = (
            f"difference {self.comparison['difference']:+.1f} (95% {low:+.1f} to {high:+.1f}), p = "
            f"{self.comparison['p']:.2g}, {count_of(self.comparison['items'], 'query', 'queries')}: {verdict}"
        )
        lines = [
            fitted,
            f"{main}: {_score(self.before)} -> {_score(self.after)}",
            difference,
        ]
        lines += [f"leaked: {choice['leaks']}"] if choice.get("leaks") else []
        return "\n".join(lines)


def fit_query_map(
    encoder: Encoder,
    data: TrainingData,
    *,
    test: Dataset | None = None,
    settings: MapSettings | None = None,
    progress: bool | None = False,
) -> QueryMapProof:
    """Fit a map for the queries of a model; nothing is written.

    The documents of ``data`` are searched together, those of all parts: that is what an index has.

    Args:
        encoder: the model, without a map.
        data: queries with their documents; a grade above 0 counts.
        test: a retrieval set that proves the map; by default a part of ``data``, split by source.
        settings: how it is fitted.
        progress: show bars.

    Raises:
        InputError: there are too few queries, nothing differs between the two sides, the data are no rankings, or
            texts of the test are in the data.
    """
    chosen = settings or MapSettings()
    if encoder.query_map is not None:
        raise InputError("The model has a query map already: fit the new one to the model without it.", param="model")
    fit = _MapFit(encoder, data, test, chosen, progress)
    return fit.prove(fit.choose())


class _MapFit:
    """The parts of the data, their vectors, and the choice between candidates."""

    def __init__(
        self, encoder: Encoder, data: TrainingData, test: Dataset | None, settings: MapSettings, progress: bool | None
    ) -> None:
        rows = _require_rankings(data)
        self._data, self._settings, self._encoder = data, settings, encoder
        self._leaks = _check_leaks(data, test, settings)
        rest, self._test = _split_test(data, test, settings)
        train, dev = split_by_source(rest, settings.dev_share, settings.seed)
        self._train, self._dev = _positives(train), _positives(dev)
        self._method, self._reason = _method(self._train, rows, settings.method)
        self._encode(rows, progress)

    def _encode(self, rows: Retrieval, progress: bool | None) -> None:
        test, needed = self._test.rows, {*self._train, *self._dev}
        assert isinstance(test, Retrieval)
        queries = [rows.queries[key] for key in needed] + list(test.queries.values())
        documents = [*rows.documents.values(), *test.documents.values()]
        self._system = VectorSystem(
            self._encoder.name,
            by_text(self._encoder, queries, "query", progress=progress),
            by_text(self._encoder, documents, "document", progress=progress),
        )
        self._fingerprint = encode_full(self._encoder, [], "query")[1]
        self._ids = {key: number for number, key in enumerate(rows.documents)}
        self._documents = self._system.encode(list(rows.documents.values()), role="document")
        self._texts = rows.queries

    def _queries(self, part: Mapping[str, Sequence[str]]) -> Array:
        return self._system.encode([self._texts[key] for key in part], role="query")

    def choose(self) -> VectorMap:
        """Return the candidate with the strongest prior among the best on the dev part."""
        relevant = [[self._ids[key] for key in keys] for keys in self._dev.values()]
        queries = self._queries(self._dev)
        base = mean_gain(first_ranks(queries, self._documents, relevant))
        tried = [
            (gains(first_ranks(queries @ matrix, self._documents, relevant)), strength, matrix)
            for strength, matrix in self._candidates()
        ]
        dev, strength, matrix = strongest_of_equals(tried)
        self._choice = self._describe(base, float(dev.mean()), strength)
        return self._map(matrix)

    def _describe(self, base: float, dev: float, strength: float) -> JsonDict:
        test = self._test
        return {
            "method": self._method,
            "reason": self._reason,
            "strength": strength,
            "dev_before": base,
            "dev_after": dev,
            "queries": count_of(len(self._train), "query fitted", "queries fitted"),
            "parts": {"fit": len(self._train), "dev": len(self._dev), "test": test.rows.counts()["queries"]},
            "data": {"name": self._data.name, "digest": self._data.digest},
            "test": {"name": test.name, "digest": test.digest},
            "seed": self._settings.seed,
            "leaks": self._leaks,
        }

    def _candidates(self) -> Iterator[tuple[float, Array]]:
        """Yield strengths and matrices of the method, fitted on the part for fitting."""
        pairs = [(query, self._ids[key]) for query, keys in self._train.items() for key in keys]
        x = self._system.encode([self._texts[query] for query, _ in pairs], role="query")
        numbers = np.array([number for _, number in pairs])
        if self._method == "meaning":
            yield from identity_ridge(x, self._documents[numbers])
        else:
            yield from ranking_matrix(x, self._documents, numbers, seed=self._settings.seed)

    def _map(self, matrix: Array) -> VectorMap:
        fingerprint, is_unit = self._fingerprint, self._encoder.recipe.normalized
        tensors = {"matrix": matrix.astype(np.float32)}
        return VectorMap("query", "linear", fingerprint, fingerprint, tensors, unit=is_unit)

    def prove(self, query_map: VectorMap) -> QueryMapProof:
        """Measure the map on the test, once."""
        seed = self._settings.seed
        before, after = (
            evaluate(system, self._test, seed=seed) for system in (self._system, self._system.with_map(query_map))
        )
        proof = QueryMapProof(query_map, before, after, paired_test(after, before, seed=seed), self._choice)
        facts = {"model": self._encoder.name, "version": __version__, **proof.to_dict()}
        return replace(proof, query_map=replace(query_map, facts=facts))


def _require_rankings(data: TrainingData) -> Retrieval:
    """Return the rows of the data with enough queries whose text is not that of their document.

    Raises:
        InputError: there are too few of them, or the rows are labels or scores.
    """
    if not isinstance(data.rows, Retrieval):
        raise InputError(f"A query map is fitted to queries with their documents, and {data.name!r} has {data.shape}.")
    rows, pairs = data.rows, _positives(data)
    unequal = sum(
        any(normalise(rows.queries[query]) != normalise(rows.documents[key]) for key in keys)
        for query, keys in pairs.items()
    )
    if pairs and not unequal:
        raise InputError(f"All {len(pairs):,} queries of {data.name!r} equal their documents: there is nothing to map.")
    if unequal < MIN_QUERIES:
        raise InputError(
            f"{data.name!r} has {count_of(unequal, 'query', 'queries')} with a document of another text. At least "
            f"{MIN_QUERIES} are needed: a part chooses the strength, and another proves the map."
        )
    return rows


def _positives(data: TrainingData) -> dict[str, list[str]]:
    """Return the relevant documents of each query that has any."""
    assert isinstance(data.rows, Retrieval)
    relevant = {
        query: [key for key, grade in judged.items() if grade > 0] for query, judged in data.rows.relevant.items()
    }
    return {query: keys for query, keys in relevant.items() if keys}


def _split_test(data: TrainingData, test: Dataset | None, settings: MapSettings) -> tuple[TrainingData, Dataset]:
    """Return the data for fitting, and the test: that of the caller, or a part that is searched in all documents."""
    if test is not None:
        if not isinstance(test.rows, Retrieval):
            raise InputError(f"The test of a query map is a retrieval set, and {test.name} is one for {test.task}.")
        return data, test
    rest, held_out = split_by_source(data, settings.test_share, settings.seed)
    assert isinstance(held_out.rows, Retrieval)
    return rest, Dataset(f"{data.name} (held out)", "retrieval", held_out.rows, synthetic=data.synthetic)


def _check_leaks(data: TrainingData, test: Dataset | None, settings: MapSettings) -> int:
    """Return how many rows of the test are in the data.

    Raises:
        InputError: there are some, and they are not allowed.
    """
    leaks = find_leaks(data, test) if test is not None else []
    if leaks and not settings.allow_leaks:
        raise InputError(
            f"The test is in the data, so that its figures would prove nothing:\n{describe_leaks(leaks)}\n"
            "Remove these rows from the data, or take another test."
        )
    return len(leaks)


def _method(pairs: Mapping[str, Sequence[str]], rows: Retrieval, method: Method) -> tuple[str, str]:
    """Return ``meaning`` or ``ranking``, and why.

    Regression of questions onto the documents that answer them moves all queries onto a few hubs. Texts of the same
    meaning come in pairs, and are about equally long.
    """
    if method != "auto":
        return method, "requested"
    keys = [key for documents in pairs.values() for key in documents]
    if len(keys) > len(pairs) or len(set(keys)) < len(keys):
        return "ranking", "several queries or documents belong together"
    lengths = [_length_ratio(rows.queries[query], rows.documents[documents[0]]) for query, documents in pairs.items()]
    ratio = float(np.median(lengths))
    if ratio > MAX_LENGTH_RATIO:
        return "ranking", f"one side is {ratio:.1f} times as long as the other"
    return "meaning", "pairs of about equal length"


def _length_ratio(a: str, b: str) -> float:
    shorter, longer = sorted((len(a), len(b)))
    return longer / max(shorter, 1)


def _score(result: JsonDict) -> str:
    low, high = result["interval"]
    return f"{result['score']:.1f} (95% {low:.1f} to {high:.1f})"


def _figure(result: JsonDict) -> JsonDict:
    return {name: result[name] for name in ("main", "score", "interval", "metrics", "cautions")}
