"""Compare variants on the same data: quality with paired tests, speed, memory, storage, and a ranking."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import __version__
from nearfield.errors import InputError, NearfieldError
from nearfield.evaluation.comparison import ranking, vector_storage
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.comparison.result_store import ResultStore, default_folder
from nearfield.evaluation.comparison.verdict.conclusion import conclude
from nearfield.evaluation.comparison.verdict.need import check_need
from nearfield.evaluation.comparison.verdict.paired_tests import PairTester
from nearfield.evaluation.datasets import loaders
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.sampling import sample
from nearfield.evaluation.evaluate import check_counts, evaluate
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.performance import environment, isolated, load_test
from nearfield.evaluation.systems import System, open_system
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.grid import labels
from nearfield.evaluation.systems.variant import Variant
from nearfield.evaluation.weights import normalise_weights
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import describe, refuse_item

#: Errors of one variant that do not end the comparison.
_FAILURES = (NearfieldError, OSError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError)
#: Number of documents and queries for the measurement of speed.
DOCUMENTS, QUERIES = 256, 64
Step = Callable[[str, int, int], None]


def compare(
    models: Iterable[str | Variant],
    data: str | Path | Dataset | Sequence[str | Path | Dataset],
    *,
    task: str | None = None,
    k: int = 10,
    weights: Mapping[str, float] | None = None,
    need: Mapping[str, float] | None = None,
    speed: bool = True,
    seconds: float = 2.0,
    clients: Iterable[int] = (1, 4, 16),
    samples: int = 1000,
    seed: int = 0,
    cache: str | Path | bool | None = True,
    on_step: Step | None = None,
) -> dict[str, Any]:
    """Evaluate variants of models on the same data sets and rank them.

    Args:
        models: names, or variants (``all-MiniLM-L6-v2?dimensions=256&dtype=binary``); see ``systems.grid``.
        data: one or several data sets or their paths; see ``load_dataset``.
        task: of paths whose layout does not say.
        k: cutoff of rankings.
        weights: of quality, speed, memory and storage in the total, which orders variants whose quality the tests do
            not distinguish; see ``comparison.ranking``.
        need: what suffices: ``texts_per_second`` (documents prepared for search), ``p95_ms`` (of a query, at the first
            number of clients), ``memory`` (bytes), ``bytes_per_document``. A variant that misses it is no choice, and
            what exceeds it does not count.
        speed: also measure speed, latency and memory, each variant in a separate process.
        seconds: for each measurement of speed.
        clients: numbers of concurrent clients.
        samples: bootstrap samples.
        seed: of every random draw.
        cache: True stores results and vectors in ``result_store.default_folder()``, a path stores them there, False
            or None nowhere. A stored result of the same model, data and settings is not computed again.
        on_step: called before each step with a description, the number of finished steps, and their total.

    Returns:
        A dict that JSON can hold: ``verdict`` (``headline`` and ``sentences``, ``take``, ``best``, ``equal``,
        ``worse``, ``unfit``, ``power``, ``deciding``; see ``comparison.verdict.decision``), ``variants`` (for each
        ``name``, ``label``, ``results`` by data set, ``quality`` (mean of the main scores), ``speed``, ``storage``,
        ``errors``), ``datasets``, ``significance`` (pairs of variants by data set: ``difference``, ``interval``, ``p``,
        ``adjusted``), ``overall`` (the same on the mean of all data sets), ``front`` (Pareto: quality against speed),
        ``ranking`` (in order; ``group`` is ``tied``, ``worse`` or ``unfit``), ``cautions`` (see ``evaluate``),
        ``weights``, ``need``, ``normalisation``, ``machine``, ``settings``, ``made`` (the time).

    Raises:
        InputError: there is nothing to compare, an argument is wrong, or the data cannot be read. The failure of one
            variant is recorded in its ``errors``.
    """
    timing = _read_timing(seconds, clients) if speed else {}
    k, samples, seed = check_counts(k, samples, seed)
    chosen = _variants(models)
    shares = normalise_weights(ranking.WEIGHTS, weights)
    limits = check_need(need, speed=speed)
    sets = _sets(data, task)
    store = ResultStore(default_folder() if cache is True else cache or None)
    settings: JsonDict = {"k": k, "samples": samples, "seed": seed}
    work = _ComparisonRun(store, store.embedding_cache(), sets, settings, on_step, len(chosen) * (len(sets) + speed))
    rows = [work.measure(variant) for variant in chosen]
    if speed:
        for row in rows:
            work.time(row, timing)
    for row, label in zip(rows, labels(chosen), strict=True):
        row["label"] = label
    tester = PairTester(store, settings, work.on_pair)
    conclusion = conclude(rows, sets, tester, shares, limits)
    settings = settings | {**({"speed": timing} if timing else {}), "version": __version__}
    return _to_dict(rows, sets, shares, settings) | conclusion


class _ComparisonRun:
    """The state that variants share during a comparison."""

    def __init__(
        self,
        store: ResultStore,
        memo: EmbeddingCache,
        sets: Sequence[Dataset],
        settings: JsonDict,
        on_step: Step | None,
        steps: int,
    ) -> None:
        self._store, self._memo, self._sets, self._settings = store, memo, sets, settings
        self._on_step, self._steps, self._done = on_step, steps, 0

    def measure(self, variant: Variant) -> JsonDict:
        """Evaluate a variant on every data set; failures are recorded in ``errors``."""
        row: JsonDict = {"name": str(variant), "options": _options(variant), "results": {}, "errors": []}
        self._step(f"{variant}: opening", 0)
        system = None
        try:
            system = open_system(variant, self._memo)
            row["identity"] = system.identity
            for dataset in self._sets:
                self._quality(row, system, variant, dataset)
        except _FAILURES as error:
            row["errors"].append(_failed("opening", error))
            self._done += len(self._sets) - len(row["results"])
        finally:
            if system is not None:
                system.close()
        scores = [result["score"] for result in row["results"].values()]
        row["quality"] = float(np.mean(scores)) if len(scores) == len(self._sets) else None
        row["storage"] = next((result["storage"] for result in row["results"].values()), None)
        return row

    def _quality(self, row: JsonDict, system: System, variant: Variant, dataset: Dataset) -> None:
        self._step(f"{variant} on {dataset.name}", 0)
        of = {"identity": system.identity, "digest": dataset.digest, **self._settings, "version": __version__}
        try:
            result = self._store.get("quality", **of)
            if result is None:
                result = evaluate(system, dataset, **self._settings, memo=self._memo)
                result["storage"] = vector_storage.bytes_per_document(system, variant, dataset)
                self._store.put("quality", result, **of)
            row["results"][dataset.name] = result
        except _FAILURES as error:
            row["errors"].append(_failed(dataset.name, error))
        self._step(f"{variant} on {dataset.name}", 1)

    def time(self, row: JsonDict, timing: JsonDict) -> None:
        """Measure the speed of a variant that could be opened."""
        row["speed"] = None
        self._step(f"{row['name']}: speed", 0)
        if "identity" in row:
            documents, queries = sample(self._sets[0], DOCUMENTS, QUERIES, self._settings["seed"])
            texts = hashlib.sha256(json.dumps([documents, queries]).encode()).hexdigest()
            of = {"identity": row["identity"], "texts": texts, **timing, "machine": _machine(), "version": __version__}
            try:
                result = self._store.get("speed", **of)
                if result is None:
                    result = isolated.measure_in_subprocess(row["name"], documents, queries, **timing)
                    self._store.put("speed", result, **of)
                row["speed"] = result
            except _FAILURES as error:
                row["errors"].append(_failed("speed", error))
        self._step(f"{row['name']}: speed", 1)

    def on_pair(self, what: str) -> None:
        """Report the test of a pair, which comes after all steps."""
        if self._on_step is not None:
            self._on_step(f"testing {what}", self._steps, self._steps)

    def _step(self, what: str, done: int) -> None:
        self._done += done
        if self._on_step is not None:
            self._on_step(what, self._done, self._steps)


def _to_dict(rows: list[JsonDict], sets: Sequence[Dataset], shares: dict[str, float], settings: JsonDict) -> JsonDict:
    return {
        "variants": rows,
        "datasets": [dataset.to_dict() for dataset in sets],
        "front": ranking.pareto_front([figures(row) for row in rows]),
        "cautions": _cautions(rows),
        "weights": shares,
        "normalisation": dict(ranking.NORMALISATION),
        "machine": environment.describe_environment(),
        "settings": settings,
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _cautions(rows: Sequence[JsonMapping]) -> list[str]:
    """Return the cautions of all results, each once, with the name of the data set; stored results may have none."""
    results = [(name, result) for row in rows for name, result in row["results"].items()]
    cautions = [(name, caution) for name, result in results for caution in result.get("cautions", ())]
    return [f"{name}: {caution}" for name, caution in dict.fromkeys(cautions)]


def _read_timing(seconds: float, clients: Iterable[int]) -> JsonDict:
    seconds, counts = load_test.check_load(seconds, clients)
    if not counts:
        raise InputError("clients has no numbers: give one or several, such as [1, 4].", param="clients")
    return {"seconds": seconds, "clients": counts}


def _variants(models: Iterable[str | Variant]) -> list[Variant]:
    if isinstance(models, (str, Variant)):
        models = [models]
    if isinstance(models, (bytes, Mapping)) or not isinstance(models, Iterable):
        raise InputError(f"models must be names of models or variants, and is {describe(models)}.", param="models")
    models = list(models)
    for number, model in enumerate(models):
        if not isinstance(model, (str, Variant)):
            refuse_item(model, number, "models", "models: item", "a name or a Variant")
    parsed = [model if isinstance(model, Variant) else Variant.parse(model) for model in models]
    variants = list({str(variant): variant for variant in parsed}.values())
    if not variants:
        raise InputError("There is nothing to compare: name a model or several.", param="models")
    return variants


def _sets(data: str | Path | Dataset | Sequence[str | Path | Dataset], task: str | None) -> list[Dataset]:
    if isinstance(data, (bytes, Mapping)) or not isinstance(data, (str, Path, Dataset, Iterable)):
        raise InputError(f"data must be data sets or their paths, and is {describe(data)}.", param="data")
    sources = [data] if isinstance(data, (str, Path, Dataset)) else list(data)
    datasets = [source if isinstance(source, Dataset) else loaders.load_dataset(source, task) for source in sources]
    if not datasets:
        raise InputError("There is no data to compare on.", param="data")
    repeated = find_repeated(dataset.name for dataset in datasets)
    if repeated is not None:
        raise InputError(f"Two data sets have the name {repeated!r}.", param="data")
    return datasets


def _options(variant: Variant) -> JsonDict:
    return {name: value for name, value in vars(variant).items() if value is not None}


def _failed(step: str, error: BaseException) -> dict[str, str]:
    return {"step": step, "kind": type(error).__name__, "message": str(error)[:500]}


def _machine() -> str:
    facts = environment.describe_environment()
    facts.pop("date")
    return json.dumps(facts, sort_keys=True)
