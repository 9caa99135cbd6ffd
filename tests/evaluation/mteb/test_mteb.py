"""MTEB's own package drives our models, and gives the published scores; nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.client import Client, RemoteModel
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError, SourceUnavailable
from nearfield.evaluation.datasets import loaders
from nearfield.evaluation.datasets.dataset import Classification, Dataset, Labelled, PairRows, Retrieval
from nearfield.evaluation.mteb import published_scores
from nearfield.evaluation.mteb.model import MtebModel
from nearfield.evaluation.mteb.tasks import run_tasks, with_data
from nearfield.testing import write_tiny_model
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing
from tests.support.serving import serving

mteb = pytest.importorskip("mteb", reason="mteb is for Python 3.11 on")
pytestmark = [
    pytest.mark.filterwarnings("ignore:The task .* is superseded:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]
SHARED = SHARED_FOLDER
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def _shared(name: str) -> Path:
    path = SHARED / name
    return path if path.exists() else missing(f"the evaluation data is not here ({path})")


@lru_cache(maxsize=1)
def _minilm() -> Encoder:
    try:
        return Encoder("all-MiniLM-L6-v2")
    except SourceUnavailable as error:
        return missing(f"the model cannot be fetched: {error}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    encoder = Encoder(str(write_tiny_model(tmp_path_factory.mktemp("tiny"))))
    yield encoder
    encoder.close()


def _metadata(name: str, kind: str, prompt: Any = None) -> Any:
    told = mteb.get_task("STSBenchmark").metadata
    return told.model_copy(update={"name": name, "type": kind, "prompt": prompt})


@pytest.mark.slow
def test_the_package_measures_the_published_score_of_sts_benchmark(tmp_path: Path) -> None:
    data = {"STSBenchmark": loaders.load_dataset(_shared("data/stsb/test.tsv"))}
    rows = run_tasks(MtebModel(_minilm()), ["STSBenchmark"], data=data, output=tmp_path)
    theirs = published_scores.select_scores(
        published_scores.read_scores(_shared("reference/published_mteb.json")), MINILM
    )
    found = published_scores.compare_scores(rows, theirs)
    assert [(row["task"], row["split"], row["main"]) for row in found] == [("STSBenchmark", "test", "cosine_spearman")]
    assert found[0]["published"] == pytest.approx(82.03, abs=0.01)
    assert found[0]["difference"] == pytest.approx(0, abs=0.1)
    # What mteb wrote is read back as the same, and as this model's.
    again = published_scores.select_scores(published_scores.read_scores(tmp_path), "all-MiniLM-L6-v2", "STSBenchmark")
    assert again[0].main == pytest.approx(rows[0]["score"], abs=1e-3)
    assert again[0].revision == theirs[0].revision


@pytest.mark.slow
def test_a_retrieval_task_run_by_mteb_agrees_with_our_own_evaluation(tiny: Encoder, tmp_path: Path) -> None:
    from nearfield.evaluation.evaluate import evaluate

    data = loaders.load_dataset(_shared("data/xquad/en"))
    with_mteb = run_tasks(MtebModel(tiny), ["SciFact"], data={"SciFact": data})
    ours = evaluate(tiny, data, samples=0)
    assert with_mteb[0]["main"] == "ndcg_at_10"
    assert with_mteb[0]["score"] == pytest.approx(ours["score"], abs=0.02)


def test_what_is_kept_is_not_computed_again(tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = PairRows(["a cat", "a dog", "the sun"], ["the cat", "a moon", "the sun"], [4.0, 1.0, 5.0])
    data = {"STSBenchmark": Dataset("pairs", "sts", pairs)}
    first = run_tasks(MtebModel(tiny), ["STSBenchmark"], data=data, output=tmp_path)
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("encoded again"))
    again = run_tasks(MtebModel(tiny), ["STSBenchmark"], data=data, output=tmp_path)
    assert again[0]["score"] == pytest.approx(first[0]["score"])


@pytest.mark.slow
def test_classification_learns_from_the_rows_that_are_given(tiny: Encoder) -> None:
    texts = [f"{word} {number}" for number in range(12) for word in ("cat dog fox", "sun moon star")]
    side = Labelled(texts, ["animal", "sky"] * 12)
    data = {"Banking77Classification": Dataset("two", "classification", Classification(side, side))}
    rows = run_tasks(MtebModel(tiny), ["Banking77Classification"], data=data)
    assert rows[0]["main"] == "accuracy"
    assert rows[0]["score"] > 90  # chance is 50


@pytest.mark.parametrize(
    ("given", "name", "kind", "role", "expected"),
    [
        ({}, "SciFact", "Retrieval", "query", {"role": "query"}),
        ({}, "SciFact", "Retrieval", None, {}),
        ({"SciFact-query": "Q: "}, "SciFact", "Retrieval", "query", {"role": "query", "prompt": "Q: "}),
        ({"SciFact-query": "Q: "}, "SciFact", "Retrieval", "document", {"role": "document"}),
        ({"SciFact-query": "1", "SciFact": "2", "query": "3"}, "SciFact", "Retrieval", "query", "1"),
        ({"SciFact": "2", "Retrieval-query": "4", "query": "3"}, "SciFact", "Retrieval", "query", "2"),
        ({"Retrieval-query": "4", "Retrieval": "5", "query": "3"}, "SciFact", "Retrieval", "query", "4"),
        ({"Retrieval": "5", "query": "3"}, "SciFact", "Retrieval", "query", "5"),
        ({"STS": "6"}, "STSBenchmark", "STS", None, "6"),
    ],
)
def test_prompts_are_chosen_in_the_order_of_mteb(
    tiny: Encoder, given: dict[str, str], name: str, kind: str, role: str | None, expected: Any
) -> None:
    from mteb.types import PromptType

    found = MtebModel(tiny, prompts=given).prompt(_metadata(name, kind), None if role is None else PromptType(role))
    if isinstance(expected, dict):
        assert found == expected
    else:
        assert found["prompt"] == expected


class _Known(Encoder):
    """A model under another name, with its own prompts."""

    def __init__(self, folder: str, name: str, **facts: Any) -> None:
        super().__init__(folder)
        object.__setattr__(self.recipe, "name", name)
        for key, value in facts.items():
            object.__setattr__(self.recipe, key, value)


def test_prompts_that_mteb_keeps_for_a_model_fill_what_its_own_leave_out(tmp_path: Path) -> None:
    from mteb.types import PromptType

    model = _Known(
        str(write_tiny_model(tmp_path)), "nomic-ai/nomic-embed-text-v1.5", prompts={"query": "search_query: "}
    )
    try:
        drives = MtebModel(model)
        assert drives.mteb_model_meta.name == "nomic-ai/nomic-embed-text-v1.5"
        assert drives.prompt(_metadata("A", "Clustering"), None) == {"prompt": "clustering: "}
        assert drives.prompt(_metadata("A", "Retrieval"), PromptType.query) == {"role": "query"}
    finally:
        model.close()


def test_a_model_that_reads_instructions_gets_the_tasks(tmp_path: Path) -> None:
    from mteb.types import PromptType

    model = _Known(str(write_tiny_model(tmp_path)), "local/instructed", instruction="Instruct: {instruction}\nQuery: ")
    told = {"query": "Find what supports the claim"}
    try:
        drives = MtebModel(model)
        query = drives.prompt(_metadata("SciFact", "Retrieval", told), PromptType.query)
        assert query == {"role": "query", "instruction": told["query"]}
        assert drives.prompt(_metadata("SciFact", "Retrieval", told), PromptType.document) == {"role": "document"}
        # A task without a prompt has that of its type.
        assert drives.prompt(mteb.get_task("STSBenchmark").metadata) == {
            "instruction": "Retrieve semantically similar text."
        }
    finally:
        model.close()


def test_dimensions_and_precision_are_part_of_what_is_measured(tiny: Encoder) -> None:
    model = MtebModel(tiny, truncate_dim=8, precision="binary")
    found = model.encode([{"text": ["a cat", "the sun"]}], task_metadata=_metadata("STSBenchmark", "STS"))
    assert found.shape == (2, 8)
    np.testing.assert_allclose(np.abs(found), 8**-0.5, rtol=1e-6)
    assert model.mteb_model_meta.experiment_kwargs == {"truncate_dim": 8, "precision": "binary"}


@pytest.mark.network
@pytest.mark.parametrize("path", ["", "/v1"])
def test_a_server_gives_what_the_model_here_gives(tiny: Encoder, path: str) -> None:
    metadata = _metadata("STSBenchmark", "STS")
    texts = [{"text": [f"the cat number {number}" for number in range(150)]}]
    with serving([tiny]) as url, MtebModel(tiny.name, url=url + path) as far:
        assert far._encoder.remote.native  # type: ignore[union-attr]
        found, here = far.encode(texts, task_metadata=metadata), MtebModel(tiny).encode(texts, task_metadata=metadata)
    np.testing.assert_allclose(found, here, atol=1e-6)


@pytest.mark.network
def test_a_server_of_openais_kind_gets_prompts_as_text(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_describe", lambda *_: RemoteModel(tiny.name))
    metadata = _metadata("STSBenchmark", "STS")
    with serving([tiny]) as url, MtebModel(tiny.name, url=url, prompts={"STS": "query passage "}) as far:
        found = far.encode([{"text": ["a cat", "the sun"]}], task_metadata=metadata)
    np.testing.assert_allclose(found, tiny.encode(["query passage a cat", "query passage the sun"]), atol=1e-6)


@pytest.mark.network
def test_servers_that_are_none_are_refused(tiny: Encoder) -> None:
    with pytest.raises(InputError, match="begins with http"):
        Client("localhost:8080", "x")
    with pytest.raises(NearfieldError, match="does not answer"):
        Client("http://127.0.0.1:9", "x")
    with serving([tiny]) as url, pytest.raises(NearfieldError, match="nothing-like-it"):
        Client(url, "nothing-like-it")


def test_data_that_does_not_fit_and_tasks_that_are_none_are_refused(tiny: Encoder) -> None:
    found = Retrieval({"d": "a cat"}, {"q": "cat"}, {"q": {"d": 1}})
    with pytest.raises(InputError, match="of MTEB's type STS"):
        with_data("STSBenchmark", Dataset("x", "retrieval", found))
    with pytest.raises(InputError, match="no task 'STSBenchmrk'"):
        run_tasks(MtebModel(tiny), ["STSBenchmrk"])
    with pytest.raises(InputError, match="which is none of the tasks"):
        run_tasks(MtebModel(tiny), ["STS12"], data={"SciFact": Dataset("x", "retrieval", found)})


def test_a_task_whose_data_cannot_be_fetched_says_so(tiny: Encoder) -> None:
    task = mteb.get_task("STS12")
    task.load_data = _unreachable
    with pytest.raises(SourceUnavailable, match=r"mteb/sts12-sts.*--data STS12=FILE"):
        run_tasks(MtebModel(tiny), [task])


def _unreachable(**_: Any) -> None:
    raise ConnectionError("Couldn't reach 'mteb/sts12-sts' on the Hub")


def test_published_scores_are_found_by_model_task_split_and_subset() -> None:
    scores = published_scores.read_scores(_shared("reference/published_mteb.json"))
    assert published_scores.select_scores(scores, MINILM, "SciFact", split="test")[0].main == pytest.approx(64.508)
    assert published_scores.select_scores(scores, "all-MiniLM-L6-v2", "STS17", subset="en-en")[0].main == pytest.approx(
        87.5878
    )
    with pytest.raises(InputError, match="Did you mean 'SciFact'"):
        published_scores.select_scores(scores, MINILM, "Scifact")
    with pytest.raises(InputError, match="No scores of 'nobody'"):
        published_scores.select_scores(scores, "nobody")


def test_results_of_experiments_and_of_old_releases_are_read(tmp_path: Path) -> None:
    rows = [{"hf_subset": "default", "languages": ["eng-Latn"], "main_score": 0.5, "spearman": 0.5}]
    place = tmp_path / "results" / "owner__name" / "abc" / "experiments" / "dim_8"
    place.mkdir(parents=True)
    (place / "STS12.json").write_text(json.dumps({"task_name": "STS12", "scores": {"test": rows}}))
    (place / "model_meta.json").write_text("{}")
    old = {
        "mteb_version": "1.0.2",
        "mteb_dataset_name": "STS13",
        "dataset_revision": "x",
        "test": {"cos_sim": {"pearson": 0.6, "spearman": 0.7}, "evaluation_time": 1.0},
    }
    (tmp_path / "results" / "owner__name" / "abc" / "STS13.json").write_text(json.dumps(old))
    found = {score.task: score for score in published_scores.read_scores(tmp_path)}
    assert (found["STS12"].model, found["STS12"].revision, found["STS12"].main) == ("owner/name", "abc", 50.0)
    assert found["STS13"].model == "owner/name" and found["STS13"].main == pytest.approx(70.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("{}", "not an MTEB result"), ('{"scores": {"test": [{}]}}', "main_score")],
)
def test_files_that_are_no_results_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "STS12.json").write_text(text)
    with pytest.raises(InputError, match=message):
        published_scores.read_scores(tmp_path / "STS12.json")


def test_the_command_puts_published_scores_beside_ours(tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from nearfield.cli.mteb import mteb

    app = typer.Typer()
    app.command()(mteb)
    folder = write_tiny_model(tmp_path / "tiny")
    data = tmp_path / "pairs.tsv"
    data.write_text("score\tsentence1\tsentence2\n5\tthe sun\tthe sun\n1\ta cat\tthe moon\n3\ta dog\tthe dog\n")
    kept = tmp_path / "theirs" / "local__tiny" / "abc" / "STSBenchmark.json"
    kept.parent.mkdir(parents=True)
    row = {"hf_subset": "default", "languages": ["eng-Latn"], "main_score": 0.25}
    kept.write_text(json.dumps({"task_name": "STSBenchmark", "scores": {"test": [row]}}))
    command = [str(folder), "--tasks", "STSBenchmark", "--data", f"STSBenchmark={data}"]
    command += ["--published", str(tmp_path / "theirs"), "--output", str(tmp_path / "ours")]
    told = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)["results"][0]
    assert (found["task"], found["published"]) == ("STSBenchmark", 25.0)
    assert found["difference"] == pytest.approx(found["ours"] - 25.0)
    shown = CliRunner().invoke(app, command, catch_exceptions=False)
    assert f"{found['ours']:.2f}" in shown.stdout and "25.00" in shown.stdout
