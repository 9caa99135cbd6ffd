"""Quantise a model into a folder, which is written only if its measured scores do not fall too far."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.argument_checks import require_number
from nearfield.arrays import Array
from nearfield.checkpoint.weights.quantized.quantization_record import FOLDER_PRECISIONS
from nearfield.checkpoint.weights.weights import Weights, files
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.performance.workloads import texts as workload
from nearfield.evaluation.significance import paired_test
from nearfield.evaluation.stability.golden_vectors import TEXTS, cosine
from nearfield.evaluation.systems import System, open_system
from nearfield.evaluation.systems.local_model import LocalModel
from nearfield.evaluation.systems.variant import Variant
from nearfield.fileio.whole_folder import require_new_folder, whole_folder
from nearfield.inference.uncompiled_model import UncompiledModel, read_model
from nearfield.recipe import Recipe
from nearfield.training.light.quantization_report import QuantizationReport
from nearfield.training.light.quantized_folder import quantized_bytes, write_quantized, write_record

#: Points that a data set may lose unless more are accepted.
MAX_LOSS = 0.5
#: Texts whose vectors are compared, and texts of the lowest cosine that a report has.
_COMPARED, _WORST = 20_000, 5


#: Memory before and after, speed, data sets, and cosines, as a report has them.
Figures = tuple[tuple[int | None, int | None], float | None, list[JsonDict], JsonDict | None]
#: Dense vectors by text and role.
Vectors = Mapping[tuple[str, str], Array]


class _NothingToWrite(Exception):
    """The report refuses the folder."""


@dataclass(frozen=True)
class QuantizationPlan:
    """What would be written: the precision, and the bytes of the weights in float32 and in it."""

    model: str
    precision: str
    bytes_before: int
    bytes_after: int


def quantize(
    model: str | Path,
    output: str | Path,
    *,
    precision: str = "int8",
    data: Sequence[str | Path | Dataset] = (),
    max_loss: float = MAX_LOSS,
    accept_unmeasured: bool = False,
    progress: bool = False,
) -> QuantizationReport:
    """Write a model with weights in int8 or int4 to a folder, unless it loses too much on your data.

    The model is measured before and after. The folder is loaded as any other (``Encoder(output)``, ``serve``), and has
    the report in ``nearfield_quantization.json``. Its vectors are of another space than those of the model.

    Args:
        model: as for ``nearfield.load``: texts to dense, sparse or multi-vectors, or scores of pairs.
        output: the folder to create.
        precision: int8 (a quarter of float32), or int4 (about a seventh; tables of embeddings in int8).
        data: data sets, or their paths (see ``evaluate``), best of your task; for rerankers those for retrieval.
        max_loss: points that each data set may lose.
        accept_unmeasured: write the folder without ``data``, when only vectors of a few texts are compared.
        progress: show bars.

    Returns:
        The report. If ``refusal`` is not None, it says why nothing was written.

    Raises:
        InputError: an argument is wrong, or the folder is there already.
        ModelRefused: the model cannot be quantised; the message says why.
        WeightsError: its weights are damaged.
    """
    require_number("max_loss", max_loss)
    source, target = open_source(str(model), precision), Path(output)
    require_new_folder(target)
    datasets = [one if isinstance(one, Dataset) else load_dataset(one) for one in data]
    with suppress(_NothingToWrite), whole_folder(target) as partial:
        write_quantized(source.recipe, partial, precision, shown=progress)
        write_record(partial, _facts(source, precision))
        before = _measure(str(model), source.recipe, datasets, progress, precision="float32")
        after = _measure(str(partial), source.recipe, datasets, progress)
        sizes = quantized_bytes(Weights.open(source.recipe.folder), "float32"), _weight_bytes(partial)
        figures = _figures(before, after)
        report = QuantizationReport(source.recipe.name, precision, sizes, *figures, max_loss, accept_unmeasured)
        if report.refusal is not None:
            raise _NothingToWrite
        write_record(partial, {**_facts(source, precision), "report": report.to_dict()})
    return report


def plan(model: str | Path, precision: str = "int8") -> QuantizationPlan:
    """Return what would be written, from the shapes of the weights alone.

    Raises:
        InputError, ModelRefused: as for ``quantize``.
    """
    recipe = open_source(str(model), precision).recipe
    weights = Weights.open(recipe.folder)
    sizes = quantized_bytes(weights, "float32"), quantized_bytes(weights, precision)
    return QuantizationPlan(recipe.name, precision, *sizes)


def open_source(model: str, precision: str) -> UncompiledModel:
    """Find a model and check that it can be quantised.

    Raises:
        InputError: the precision is unknown.
        ModelRefused: it cannot be quantised; the message says why.
    """
    if precision not in FOLDER_PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}. {nearest(precision, FOLDER_PRECISIONS)}", param="precision")
    source = read_model(model)
    reason = refusal_of(source.recipe, has_adapter=bool(source.adapters))
    if reason is not None:
        raise ModelRefused(f"{source.recipe.name} cannot be quantised: {reason}")
    return source


def refusal_of(recipe: Recipe, *, has_adapter: bool) -> str | None:
    """Return why a model cannot be quantised into a folder; None if it can."""
    if recipe.quantized:
        return f"its weights are in {recipe.quantized} already. Take the model that they are from."
    if recipe.config.get("model_type") == "static":
        return "it is a table of word vectors. Distil one in int8: nearfield train static --precision int8."
    if recipe.merged is not None or has_adapter:
        return "its folder is an adapter. Take its base model; an adapter is loaded beside it."
    if recipe.reads != ("text",):
        return (
            f"it reads {' and '.join(recipe.reads)}, and only texts are measured. "
            "Load it with precision='int8' or 'int4', and compare what it finds."
        )
    if files(recipe.folder)[0].suffix == ".gguf":
        return "its weights are in a GGUF file, often rounded already. Take the model that it was converted from."
    return None


def _facts(source: UncompiledModel, precision: str) -> JsonDict:
    recipe = source.recipe
    facts = {"precision": precision, "model": recipe.name, "revision": recipe.revision, "licence": recipe.licence}
    return {**facts, "catalogue_id": recipe.name}


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class MeasuredModel:
    """What was measured of a model: results of ``evaluate``, vectors by text and role, and the cost of computing."""

    results: list[JsonDict] = field(default_factory=list)
    vectors: Vectors = field(default_factory=dict)
    memory: int | None = None
    seconds: float | None = None


class _RecordingModel(LocalModel):
    """A model that remembers the dense vectors of the first texts."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.vectors: dict[tuple[str, str], Array] = {}

    def encode(self, texts: Sequence[str], *, role: str) -> Any:
        encoded = super().encode(texts, role=role)
        if self.variant.output == "dense":
            for text, row in zip(texts[: _COMPARED - len(self.vectors)], encoded, strict=False):
                self.vectors.setdefault((text, role), row)
        return encoded


def _measure(
    model: str, recipe: Recipe, datasets: Sequence[Dataset], progress: bool, precision: str | None = None
) -> MeasuredModel:
    """Measure a model that is located as ``model``."""
    output = recipe.outputs[0]
    if output == "scores":
        variant = Variant(output="bm25", rerank=model, precision=precision)
        with closing(open_system(variant)) as reranker:
            return MeasuredModel(_evaluated(reranker, datasets, progress))
    with closing(_RecordingModel(Variant(model=model, output=output, precision=precision))) as system:
        system.encode(TEXTS, role="symmetric")
        results = _evaluated(system, datasets, progress)
        return MeasuredModel(results, system.vectors, system.encoder.bytes, _seconds(system))


def _evaluated(system: System, datasets: Sequence[Dataset], progress: bool) -> list[JsonDict]:
    return [evaluate(system, dataset, progress=progress) for dataset in datasets]


def _seconds(system: LocalModel) -> float:
    """Return the seconds that some texts of mixed lengths take."""
    batch = workload("mixed", quick=True)
    started = time.perf_counter()
    system.encoder.encode(batch, outputs=(system.variant.output,))
    return time.perf_counter() - started


def _figures(before: MeasuredModel, after: MeasuredModel) -> Figures:
    """Return memory, speed, sets and cosines as a report has them."""
    speed = before.seconds / after.seconds if before.seconds and after.seconds else None
    sets = [_compare(*pair) for pair in zip(before.results, after.results, strict=True)]
    return (before.memory, after.memory), speed, sets, _cosines(before.vectors, after.vectors)


def _compare(before: JsonDict, after: JsonDict) -> JsonDict:
    """Return what a data set gains: its scores, and a paired test."""
    test = paired_test(after, before)
    return {
        "dataset": before["dataset"]["name"],
        "metric": before["main"],
        "before": before["score"],
        "after": after["score"],
        **{name: test[name] for name in ("interval", "p", "test", "items", "significant")},
    }


def _cosines(before: Vectors, after: Vectors) -> JsonDict | None:
    if not before:
        return None
    values = {key: cosine(row, after[key]) for key, row in before.items()}
    worst = sorted(values, key=values.__getitem__)[:_WORST]
    return {
        "texts": len(values),
        "least": min(values.values()),
        "mean": float(np.mean([*values.values()])),
        "worst": [{"cosine": values[key], "role": key[1], "text": key[0]} for key in worst],
    }


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
