"""Compare: several variants on the same data: quality with paired tests, speed, memory, storage, and their standing."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import __version__
from nearfield.errors import InputError, NearfieldError
from nearfield.evaluation import significance
from nearfield.evaluation.comparison import ranking, vector_storage
from nearfield.evaluation.comparison.result_store import ResultStore, default_folder
from nearfield.evaluation.datasets import loaders
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.sampling import sample
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.performance import environment, isolated
from nearfield.evaluation.systems import open_system
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.grid import labels
from nearfield.evaluation.systems.variant import Variant
from nearfield.evaluation.weights import normalise_weights

#: What may go wrong with one variant and is to cost no other.
_FAILURES = (NearfieldError, OSError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError)
#: Variants up to which all pairs are tested; of more, each with the best.
_ALL_PAIRS = 6
#: Documents and queries that speed is measured on.
DOCUMENTS, QUERIES = 256, 64
Step = Callable[[str, int, int], None]


def compare(
    models: Iterable[str | Variant],
    data: str | Path | Dataset | Sequence[str | Path | Dataset],
    *,
    task: str | None = None,
    k: int = 10,
    weights: Mapping[str, float] | None = None,
    speed: bool = True,
    seconds: float = 2.0,
    clients: Sequence[int] = (1, 4, 16),
    samples: int = 1000,
    seed: int = 0,
    cache: str | Path | bool | None = True,
    on_step: Step | None = None,
) -> dict[str, Any]:
    """Measure variants of models on the same data sets and put them in order.

    Args:
        models: names, or variants (``all-MiniLM-L6-v2?dimensions=256&dtype=binary``); ``variants.grid`` makes many.
        data: a data set or several, or paths of such; see ``reading.read``.
        task: of paths whose layout leaves it open.
        k: cutoff of rankings.
        weights: what counts how much in the ranking (quality, speed, memory, storage); see ``standing``.
        speed: whether to measure speed, latency and memory, each variant in a process of its own.
        seconds: for each figure of speed; ``clients``: callers at once.
        samples: draws of the bootstrap; ``seed``: of every draw.
        cache: True keeps results and vectors in ``kept.default_folder()``; a path keeps them there; False or None
            nowhere. What was computed once, of the same model, data and settings, is not computed again.
        on_step: told before each step: what, how many are done, and how many there are.

    Returns:
        A dict that JSON can hold: ``variants`` (for each ``name``, ``label``, ``results`` by data set, ``quality``
        (mean of the main scores), ``speed``, ``storage``, ``errors``), ``datasets``, ``significance`` (pairs of
        variants by data set: ``difference``, ``interval``, ``p``, ``adjusted``), ``front`` (Pareto: quality against
        speed), ``ranking``, ``weights``, ``normalisation``, ``machine``, ``settings``, ``made``.

    Raises:
        InputError: there is nothing to compare, an argument is wrong, or the data cannot be read. What fails with one
            variant alone stands in its ``errors``.
    """
    if speed and (seconds <= 0 or not clients or min(clients) < 1):
        raise InputError(f"Speed is measured for some seconds with 1 client or more: {seconds:g} s, {[*clients]}.")
    chosen = _variants(models)
    shares = normalise_weights(ranking.WEIGHTS, weights)
    sets = _sets(data, task)
    kept = ResultStore(default_folder() if cache is True else cache or None)
    settings: dict[str, Any] = {"k": k, "samples": samples, "seed": seed}
    timing = {"seconds": seconds, "clients": [*clients]}
    work = _ComparisonRun(kept, kept.memo(), sets, settings, on_step, len(chosen) * (len(sets) + speed))
    rows = [work.measure(variant) for variant in chosen]
    if speed:
        for row in rows:
            work.time(row, timing)
    for row, label in zip(rows, labels(chosen), strict=True):
        row["label"] = label
    pairs = [pair for dataset in sets for pair in work.pairs(rows, dataset)]
    settings = settings | {**({"speed": timing} if speed else {}), "version": __version__}
    return _to_dict(rows, sets, pairs, shares, settings)


class _ComparisonRun:
    """What variants share while they are measured."""

    def __init__(
        self,
        kept: ResultStore,
        memo: EmbeddingCache,
        sets: Sequence[Dataset],
        settings: dict[str, Any],
        on_step: Step | None,
        steps: int,
    ) -> None:
        self._kept, self._memo, self._sets, self._settings = kept, memo, sets, settings
        self._on_step, self._steps, self._done = on_step, steps, 0

    def measure(self, variant: Variant) -> dict[str, Any]:
        """Measure a variant's quality on every data set; what fails stands in ``errors``."""
        row: dict[str, Any] = {"name": str(variant), "options": _options(variant), "results": {}, "errors": []}
        self._step(f"{variant}: opening", 0)
        subject = None
        try:
            subject = open_system(variant, self._memo)
            row["identity"] = subject.identity
            for dataset in self._sets:
                self._quality(row, subject, variant, dataset)
        except _FAILURES as error:
            row["errors"].append(_failed("opening", error))
            self._done += len(self._sets) - len(row["results"])
        finally:
            if subject is not None:
                subject.close()
        scores = [result["score"] for result in row["results"].values()]
        row["quality"] = float(np.mean(scores)) if len(scores) == len(self._sets) else None
        row["storage"] = next((result["storage"] for result in row["results"].values()), None)
        return row

    def _quality(self, row: dict[str, Any], subject: Any, variant: Variant, dataset: Dataset) -> None:
        self._step(f"{variant} on {dataset.name}", 0)
        of = {"identity": subject.identity, "digest": dataset.digest, **self._settings, "version": __version__}
        try:
            result = self._kept.get("quality", **of)
            if result is None:
                result = evaluate(subject, dataset, **self._settings, memo=self._memo)
                result["storage"] = vector_storage.bytes_per_document(subject, variant, dataset)
                self._kept.put("quality", result, **of)
            row["results"][dataset.name] = result
        except _FAILURES as error:
            row["errors"].append(_failed(dataset.name, error))
        self._step(f"{variant} on {dataset.name}", 1)

    def time(self, row: dict[str, Any], timing: dict[str, Any]) -> None:
        """Measure a variant's speed, where it could be opened."""
        row["speed"] = None
        self._step(f"{row['name']}: speed", 0)
        if "identity" in row:
            documents, queries = sample(self._sets[0], DOCUMENTS, QUERIES, self._settings["seed"])
            texts = hashlib.sha256(json.dumps([documents, queries]).encode()).hexdigest()
            of = {"identity": row["identity"], "texts": texts, **timing, "machine": _machine(), "version": __version__}
            try:
                found = self._kept.get("speed", **of)
                if found is None:
                    found = isolated.measure_in_subprocess(row["name"], documents, queries, **timing)
                    self._kept.put("speed", found, **of)
                row["speed"] = found
            except _FAILURES as error:
                row["errors"].append(_failed("speed", error))
        self._step(f"{row['name']}: speed", 1)

    def pairs(self, rows: Sequence[dict[str, Any]], dataset: Dataset) -> list[dict[str, Any]]:
        """Test variants against each other on a data set, p adjusted for their number by Holm's method (1979)."""
        known = [row for row in rows if dataset.name in row["results"]]
        known.sort(key=lambda row: -row["results"][dataset.name]["score"])
        chosen = combinations(known, 2) if len(known) <= _ALL_PAIRS else ((known[0], row) for row in known[1:])
        found = []
        for a, b in chosen:
            self._step(f"{dataset.name}: {a['name']} and {b['name']}", 0)
            found.append({"dataset": dataset.name, "a": a["name"], "b": b["name"], **self._pair(a, b, dataset)})
        _adjust(found)
        return found

    def _pair(self, a: dict[str, Any], b: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
        of = {"identities": [a["identity"], b["identity"]], "digest": dataset.digest, **self._settings}
        of["version"] = __version__
        found = self._kept.get("pair", **of)
        if found is None:
            results = [row["results"][dataset.name] for row in (a, b)]
            found = significance.paired_test(*results, seed=self._settings["seed"])
            self._kept.put("pair", found, **of)
        return found

    def _step(self, what: str, done: int) -> None:
        self._done += done
        if self._on_step is not None:
            self._on_step(what, self._done, self._steps)


def figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a variant is ranked by: ``name``, quality, speed (documents a second), memory, storage (bytes)."""
    speed = row.get("speed") or {}
    bytes_ = (row.get("storage") or {}).get("bytes_per_document")
    return {
        "name": row["name"],
        "quality": row["quality"],
        "speed": speed.get("bulk", {}).get("texts_per_second"),
        # An endpoint's memory is its own machine's.
        "memory": None if row["options"].get("url") else speed.get("memory", {}).get("peak"),
        "storage": bytes_,
    }


def _to_dict(
    rows: list[dict[str, Any]],
    sets: Sequence[Dataset],
    pairs: list[dict[str, Any]],
    shares: dict[str, float],
    settings: dict[str, Any],
) -> dict[str, Any]:
    measured = [figures(row) for row in rows]
    return {
        "variants": rows,
        "datasets": [dataset.told() for dataset in sets],
        "significance": pairs,
        "front": ranking.pareto_front(measured),
        "ranking": ranking.rank(measured, shares),
        "weights": shares,
        "normalisation": dict(ranking.NORMALISATION),
        "machine": environment.describe_environment(),
        "settings": settings,
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _adjust(pairs: list[dict[str, Any]]) -> None:
    least = 0.0
    for rank, pair in enumerate(sorted(pairs, key=lambda each: each["p"])):
        least = max(least, min(1.0, pair["p"] * (len(pairs) - rank)))
        pair["adjusted"], pair["significant"] = least, least < 0.05


def _variants(models: Iterable[str | Variant]) -> list[Variant]:
    if isinstance(models, (str, Variant)):
        models = [models]
    parsed = [model if isinstance(model, Variant) else Variant.parse(model) for model in models]
    found = list({str(variant): variant for variant in parsed}.values())
    if not found:
        raise InputError("There is nothing to compare: name a model or several.", param="models")
    return found


def _sets(data: Any, task: str | None) -> list[Dataset]:
    given = [data] if isinstance(data, (str, Path, Dataset)) else list(data)
    found = [each if isinstance(each, Dataset) else loaders.load_dataset(each, task) for each in given]
    if not found:
        raise InputError("There is no data to compare on.", param="data")
    names = [dataset.name for dataset in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two data sets are called {twice!r}.", param="data")
    return found


def _options(variant: Variant) -> dict[str, Any]:
    return {name: value for name, value in vars(variant).items() if value is not None}


def _failed(step: str, error: BaseException) -> dict[str, str]:
    return {"step": step, "kind": type(error).__name__, "message": str(error)[:500]}


def _machine() -> str:
    told = environment.describe_environment()
    told.pop("date")
    return json.dumps(told, sort_keys=True)
