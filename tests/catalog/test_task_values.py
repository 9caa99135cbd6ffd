"""The values of tasks behind the figures: each published figure is their mean, and broken runs are not among them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from importlib.resources import files

import pytest

from nearfield import catalog
from nearfield.catalog.quality import BM25, quality_figures, quality_purposes
from nearfield.catalog.quality.purposes import PURPOSES, find_purpose
from nearfield.catalog.quality.tasks import TaskValue, mean_of_tasks, task_values
from nearfield.errors import InputError
from tests.support.paths import SHARED_FOLDER
from tools.quality.purposes import purposes
from tools.quality.scores import broken_revisions, cut_runs, read_scores, worse_with_fewer
from tools.quality.task_values import pack_tasks, task_table

MODELS = [*(entry.id for entry in catalog.entries()), BM25]
#: Purposes whose figures publishers state, without tasks.
AS_PUBLISHED = {"images", "images:labels", "rerank:en", "rerank:zh", "rerank:multilingual", "rerank:code"}
#: Purposes with tasks of which the table lacks subsets.
PARTLY = {"retrieval:multilingual", "general:multilingual"}


def _by_purpose(model: str) -> Mapping[str, tuple[TaskValue, ...]]:
    return {purpose: task_values(model, purpose) for purpose in quality_figures(model)}


def test_every_published_figure_is_the_mean_of_its_tasks() -> None:
    compared = 0
    for model in MODELS:
        for purpose, tasks in _by_purpose(model).items():
            figure = quality_figures(model)[purpose]
            if figure.is_estimated or purpose in AS_PUBLISHED | PARTLY or "results" not in figure.source:
                continue
            assert len(tasks) == figure.tasks and all(task.value is not None for task in tasks), (model, purpose)
            # Figures have one decimal.
            assert mean_of_tasks(purpose, tasks) == pytest.approx(figure.value, abs=0.056), (model, purpose)
            compared += 1
    assert compared > 1400


def test_estimates_have_as_many_values_as_they_say() -> None:
    for model in MODELS:
        for purpose, tasks in _by_purpose(model).items():
            figure = quality_figures(model)[purpose]
            if figure.is_estimated:
                known = [task for task in tasks if task.value is not None]
                assert (len(known), len(tasks)) == (figure.published, figure.tasks), (model, purpose)


def test_values_that_the_table_lacks_are_possible_ones() -> None:
    """The published mean, times the tasks, less the values in the table, is the sum of the others."""
    for model in MODELS:
        for purpose in PARTLY & set(quality_figures(model)):
            figure, tasks = quality_figures(model)[purpose], task_values(model, purpose)
            missing = [task for task in tasks if task.value is None]
            assert not any(task.subsets for task in missing), (model, purpose)
            rest = figure.value * figure.tasks - sum(task.value or 0.0 for task in tasks)
            assert -0.06 * figure.tasks <= rest <= 100 * len(missing) + 0.06 * figure.tasks, (model, purpose)


def test_values_are_traced_to_a_file_and_others_are_not() -> None:
    for model in MODELS:
        for tasks in _by_purpose(model).values():
            for task in tasks:
                assert (task.value is None) == (task.url is None)
                assert task.url is None or task.url.endswith(f"/{task.task}.json")


def test_suspicious_runs_are_in_no_figure() -> None:
    """One of each kind: named ones, LongEmbed cut short, whole revisions, and worse figures among fewer documents."""
    nano = {task.task: task.value for task in task_values("intfloat/e5-mistral-7b-instruct", "retrieval:nl")}
    assert nano["VABBRetrieval"] is None and nano["BelebeleRetrieval"] is not None
    for model in ("Alibaba-NLP/gte-Qwen2-7B-instruct", "Snowflake/snowflake-arctic-embed-m-long"):
        assert "long-documents" not in quality_figures(model)
        assert all(task.value is None for task in task_values(model, "long-documents"))
    for task in task_values("jinaai/jina-embeddings-v2-base-en", "retrieval:en"):
        assert task.url is None or "/external/" in task.url
    english = {task.task: task.value for task in task_values("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "retrieval:en")}
    assert english["ClimateFEVERHardNegatives"] is None and english["HotpotQAHardNegatives"] is not None
    # A mean over a benchmark with such a run is none.
    assert not PARTLY & set(quality_figures("ibm-granite/granite-embedding-311m-multilingual-r2"))


@pytest.mark.slow
def test_the_table_is_that_of_the_raw_figures() -> None:
    folder = SHARED_FOLDER / "data" / "quality"
    if not folder.is_dir():
        pytest.skip("the raw figures are not on this machine")
    scores = read_scores(folder)
    table = task_table(scores, purposes(scores), MODELS)
    packed = (files("nearfield.catalog.quality") / "tasks.json.gz").read_bytes()
    assert json.loads(gzip.decompress(packed)) == json.loads(json.dumps(table))
    assert len(packed) < 300_000


def test_the_same_table_has_the_same_bytes() -> None:
    table = {"tasks": [["a", "STS", ["default"], []]], "values": {"m": {"results/m/r/*.json": {"0": 1.5}}}}
    assert pack_tasks(table) == pack_tasks(table)
    assert json.loads(gzip.decompress(pack_tasks(table))) == table


# -- broken runs -----------------------------------------------------------------------------------------------------


def _row(model: str, task: str, score: float, split: str = "test", revision: str = "abc") -> dict[str, str]:
    source = f"results/{model.replace('/', '__')}/{revision}/{task}.json"
    return {
        "model": model,
        "task": task,
        "type": "Retrieval",
        "language": "en",
        "subset": "default",
        "split": split,
        "score": str(score),
        "source": source,
    }


def test_runs_that_cut_texts_short_find_no_passkey_beyond() -> None:
    def passkeys(model: str, *values: float) -> list[dict[str, str]]:
        lengths = (512, 1024, 2048, 4096)
        return [
            _row(model, "LEMBPasskeyRetrieval", value, f"test_{size}")
            for size, value in zip(lengths, values, strict=True)
        ]

    rows = [
        *passkeys("Alibaba-NLP/gte-Qwen2-7B-instruct", 100, 62, 22, 14),
        *passkeys("Alibaba-NLP/gte-multilingual-base", 98, 78, 30, 92),
        *passkeys("BAAI/bge-small-en-v1.5", 50, 32, 10, 10),
        *passkeys("nomic-ai/nomic-embed-text-v1.5", 16, 8, 22, 100),
    ]
    # bge-small reads 512 tokens; nomic-embed-text-v1.5 reads 2,048, so that its 4,096 do not count.
    assert set(cut_runs(rows)) == {"Alibaba-NLP/gte-Qwen2-7B-instruct", "nomic-ai/nomic-embed-text-v1.5"}


def test_a_search_among_fewer_documents_cannot_be_worse() -> None:
    rows = [
        *(_row("m/broken", task, 60.0, revision="external") for task in ("FEVER", "HotpotQA")),
        *(_row("m/broken", f"{task}HardNegatives", 0.5) for task in ("FEVER", "HotpotQA")),
        _row("m/once", "FEVER", 60.0),
        _row("m/once", "FEVERHardNegatives", 20.0),
        _row("m/right", "FEVER", 60.0),
        _row("m/right", "FEVERHardNegatives", 58.0),
        _row("m/weak", "FEVER", 5.0),
        _row("m/weak", "FEVERHardNegatives", 0.1),
    ]
    runs = list(worse_with_fewer(rows))
    assert [(run.model, run.name) for run in runs] == [
        ("m/broken", "en:FEVERHardNegatives"),
        ("m/broken", "en:HotpotQAHardNegatives"),
        ("m/once", "en:FEVERHardNegatives"),
    ]
    assert broken_revisions(runs) == {("m/broken", "abc")}


# -- purposes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "language", "purpose"),
    [
        ("retrieval", None, "retrieval:en"),
        ("retrieval", "deu", "retrieval:de"),
        ("retrieval:de", None, "retrieval:de"),
        ("retrieval:pt-BR", None, "retrieval:pt"),
        ("retrieval:multilingual", None, "retrieval:multilingual"),
        ("images:labels", "de", "images:labels"),
        ("code", "de", "code"),
        ("rerank", "zh", "rerank:zh"),
    ],
)
def test_a_purpose_and_a_language_are_a_purpose_with_figures(name: str, language: str | None, purpose: str) -> None:
    assert find_purpose(name, language) == purpose


@pytest.mark.parametrize("name", PURPOSES)
def test_every_purpose_has_figures(name: str) -> None:
    assert find_purpose(name) in quality_purposes()


@pytest.mark.parametrize(
    ("name", "language"), [("cooking", None), ("sts", "de"), ("retrieval", "xx"), ("code:x", None)]
)
def test_other_purposes_are_refused(name: str, language: str | None) -> None:
    with pytest.raises(InputError):
        find_purpose(name, language)
