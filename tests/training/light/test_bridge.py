"""Bridges: what each form can learn, the choice between them, measures against their definitions, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.training.light.bridge import BridgeProof, fit_bridge
from nearfield.training.light.bridge_forms import candidates
from nearfield.vectors.vector_map import VectorMap, load_map
from tests.support.cli_runner import run
from tests.support.related_models import sample, write_relatives

RANDOM = np.random.default_rng(8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Encoder]:
    old, new = write_relatives(tmp_path_factory.mktemp("models"))
    return Encoder(str(old), compile_cache=False), Encoder(str(new), compile_cache=False)


@pytest.fixture(scope="module")
def proof(models: tuple[Encoder, Encoder]) -> BridgeProof:
    return fit_bridge(*models, sample())


# -- forms -------------------------------------------------------------------------------------------------------------


def errors(x: Array, y: Array) -> dict[str, float]:
    """Return for each form the smallest mean squared error on pairs that it was not fitted on."""
    half, result = len(x) // 2, dict[str, float]()
    for candidate in candidates(x[:half], y[:half]):
        tensors = {name: np.asarray(tensor, np.float32) for name, tensor in candidate.tensors.items()}
        spaces = (f"aaaa:{x.shape[1]}:float32", f"bbbb:{y.shape[1]}:float32")
        rule = VectorMap("bridge", candidate.form, *spaces, tensors, unit=False)
        error = float(((rule.apply(x[half:].astype(np.float32)) - y[half:]) ** 2).mean() / y.var())
        result[candidate.name] = min(error, result.get(candidate.name, np.inf))
    return result


def inputs(count: int = 1200, width: int = 48) -> Array:
    return RANDOM.standard_normal((count, width)) + 0.5


def test_a_rotation_with_an_offset_is_found_by_procrustes() -> None:
    x, (rotation, _) = inputs(), np.linalg.qr(RANDOM.standard_normal((48, 48)))
    assert errors(x, x @ rotation + 3)["procrustes"] < 1e-6


def test_any_matrix_is_found_by_ridge_and_not_by_procrustes_also_between_dimensions() -> None:
    x = inputs()
    result = errors(x, x @ (RANDOM.standard_normal((48, 20)) * np.linspace(0.1, 2, 20)) + 1)
    assert result["ridge"] < 1e-4
    assert result["procrustes"] > 0.1


def test_a_noisy_matrix_of_low_rank_is_found_best_by_low_rank() -> None:
    x = inputs(width=64)
    low = RANDOM.standard_normal((64, 32)) @ RANDOM.standard_normal((32, 64)) / 32
    noise = 5.0 * RANDOM.standard_normal((len(x), 64))
    clean, noisy = x @ low, x @ low + noise
    half, best = len(x) // 2, dict[str, float]()
    for candidate in candidates(x[:half], noisy[:half]):
        if candidate.name in ("ridge", "low-rank"):
            matrix = candidate.tensors.get("matrix")
            matrix = candidate.tensors["down"] @ candidate.tensors["up"] if matrix is None else matrix
            error = float(((x[half:] @ matrix + candidate.tensors["offset"] - clean[half:]) ** 2).mean())
            best[candidate.name] = min(error, best.get(candidate.name, np.inf))
    assert best["low-rank"] < best["ridge"]


def test_what_bends_is_found_better_by_residual_features() -> None:
    x = inputs(count=4000, width=6)
    result = errors(x, np.maximum(x @ RANDOM.standard_normal((6, 6)), 0))
    assert result["residual"] < 0.7 * result["ridge"]


def test_clusters_with_maps_of_their_own_are_found_by_local_maps() -> None:
    centres, cluster = 12 * RANDOM.standard_normal((4, 10)), np.arange(2000) % 4
    x = centres[cluster] + RANDOM.standard_normal((2000, 10))
    matrices = RANDOM.standard_normal((4, 10, 10))
    result = errors(x, np.einsum("ni,nij->nj", x - centres[cluster], matrices[cluster]))
    assert result["local"] < 0.3 * result["ridge"]


def test_local_maps_are_not_tried_with_few_pairs() -> None:
    x = inputs(count=150, width=8)
    assert "local" not in {candidate.name for candidate in candidates(x, x)}


# -- measures ----------------------------------------------------------------------------------------------------------


def test_a_bridge_between_relatives_keeps_more_than_their_vectors_without_one(
    models: tuple[Encoder, Encoder], proof: BridgeProof
) -> None:
    old, new = models
    queries, documents = sample(60, seed=21), sample(300, seed=22)
    wanted = top(np.asarray(new.encode_query(queries)), np.asarray(new.encode_document(documents)))
    index = np.asarray(old.encode_document(documents))
    bridged = shared(top(proof.bridge.apply(np.asarray(new.encode_query(queries))), index), wanted)
    untouched = shared(top(np.asarray(new.encode_query(queries)), index), wanted)
    assert bridged > untouched
    # What was measured is what one gets.
    assert 100 * bridged == pytest.approx(proof.recall["score"], abs=15)


def top(queries: Array, index: Array) -> list[set[int]]:
    return [set(np.argsort(-row)[:10].tolist()) for row in queries @ index.T]


def shared(a: list[set[int]], b: list[set[int]]) -> float:
    return float(np.mean([len(one & two) / 10 for one, two in zip(a, b, strict=True)]))


def test_the_loss_is_what_is_not_kept_with_its_interval(proof: BridgeProof) -> None:
    low, high = proof.recall["interval"]
    assert low < proof.recall["score"] < high
    assert proof.loss["score"] == pytest.approx(100 - proof.recall["score"])
    assert proof.loss["interval"] == [pytest.approx(100 - high), pytest.approx(100 - low)]
    chosen = max(tried["recall_on_dev"] for tried in proof.tried)
    facts = proof.bridge.facts
    assert (facts["form"], facts["setting"]) in {
        (tried["form"], tried["setting"]) for tried in proof.tried if tried["recall_on_dev"] > chosen - 0.01
    }
    assert sum(facts["parts"].values()) == 400


def test_a_bridge_has_the_spaces_of_both_models_and_one_of_its_own(
    models: tuple[Encoder, Encoder], proof: BridgeProof
) -> None:
    old, new = models
    assert (proof.bridge.source, proof.bridge.target) == (new.fingerprint, old.fingerprint)
    assert proof.bridge.fingerprint not in (old.fingerprint, new.fingerprint)
    assert proof.bridge.fingerprint.startswith(old.fingerprint.partition(":")[0] + "~")


def test_with_judgments_the_loss_is_the_difference_to_the_new_model(models: tuple[Encoder, Encoder]) -> None:
    texts = sample(60, seed=31)
    rows = Retrieval(
        {f"d{number}": text for number, text in enumerate(texts)},
        {f"q{number}": " ".join(text.split()[:3]) for number, text in enumerate(texts)},
        {f"q{number}": {f"d{number}": 1} for number in range(60)},
    )
    proof = fit_bridge(*models, sample(150), test=Dataset("judged", "retrieval", rows))
    assert proof.labelled is not None
    difference = proof.labelled["bridge"]["score"] - proof.labelled["new"]["score"]
    assert proof.loss == {
        "measure": "nDCG@10",
        "score": pytest.approx(-difference),
        "interval": [-proof.labelled["comparison"]["interval"][1], -proof.labelled["comparison"]["interval"][0]],
    }
    assert "judged" in proof.to_text()


def test_few_or_equal_texts_and_one_space_are_refused(models: tuple[Encoder, Encoder]) -> None:
    old, new = models
    with pytest.raises(InputError, match="1 different text: at least 100"):
        fit_bridge(old, new, ["Hello, world", "hello world", " "] * 100)
    with pytest.raises(InputError, match="one vector space"):
        fit_bridge(old, old, sample())


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(models: tuple[Encoder, Encoder], tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "texts").mkdir()
    texts = sample(160)
    (tmp_path / "texts" / "a.txt").write_text("\n".join(texts[:80]))
    (tmp_path / "texts" / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[80:]))
    folders = [model.recipe.folder for model in models]
    return ("convert", "fit", "--from", folders[0], "--to", folders[1], "--texts", tmp_path / "texts")


def test_the_command_writes_a_bridge_and_says_what_it_loses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    tmp_path: Path,
) -> None:
    ran = run(capsys, monkeypatch, *arguments, "-o", tmp_path / "bridge")
    assert ran.code == 0, ran.err
    bridge = load_map(tmp_path / "bridge", "bridge")
    assert f"{bridge.facts['loss']['score']:.1f} points of recall@10" in ran.out
    assert sum(bridge.facts["parts"].values()) == 160
    assert ran.out.splitlines()[0] in (tmp_path / "bridge" / "README.md").read_text()


def test_a_larger_loss_than_allowed_is_not_written(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("nearfield.training.light.bridge.MAX_RECALL_LOSS", 0.02)
    for options in (("--max-loss", 0.01), ()):
        ran = run(capsys, monkeypatch, *arguments, "-o", tmp_path / "bridge", *options)
        assert ran.code == 3
        assert "points of recall@10 is above 0.0" in ran.out and "accept the loss: --max-loss" in ran.out
        assert not (tmp_path / "bridge").exists()
    ran = run(capsys, monkeypatch, *arguments, "-o", tmp_path / "bridge", "--max-loss", 100)
    assert ran.code == 0 and (tmp_path / "bridge" / "map.json").exists()


def test_a_sample_that_is_nowhere_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    ran = run(capsys, monkeypatch, *arguments[:-1], "no-such-texts", "-o", tmp_path / "bridge")
    assert ran.code == 2
    assert "no file, folder or collection" in ran.err
