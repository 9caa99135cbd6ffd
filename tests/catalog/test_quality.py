"""Published quality: the package's table against the raw figures, and estimates against figures that were hidden."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from nearfield import catalog
from nearfield.catalog.languages import is_multilingual
from nearfield.catalog.quality import BM25, measured_languages, quality_figures, win_share
from tests.support.paths import SHARED_FOLDER
from tools.quality.__main__ import claims, read_languages
from tools.quality.estimates import ScoreTable, figures, fit_table, hold_out
from tools.quality.factors import estimate
from tools.quality.purposes import Purpose, purposes
from tools.quality.scores import RawScores, Task, read_scores
from tools.quality.win_shares import render_shares, win_shares

#: Means of MTEB(Multilingual, v2) that the publishers give, with the one task that is not in the raw figures.
PUBLISHED_MEANS = {
    "Qwen/Qwen3-Embedding-0.6B": 64.33,
    "Qwen/Qwen3-Embedding-4B": 69.45,
    "Qwen/Qwen3-Embedding-8B": 70.58,
    "google/embeddinggemma-300m": 61.15,
}


@pytest.fixture(scope="module")
def scores() -> RawScores:
    folder = SHARED_FOLDER / "data" / "quality"
    if not folder.is_dir():
        pytest.skip("the raw figures are not on this machine")
    return read_scores(folder)


@pytest.fixture(scope="module")
def by_name(scores: RawScores) -> Mapping[str, Purpose]:
    return {purpose.name: purpose for purpose in purposes(scores)}


@pytest.mark.parametrize("model", PUBLISHED_MEANS)
def test_means_over_benchmarks_are_those_of_the_publishers(model: str) -> None:
    figure = quality_figures(model)["general:multilingual"]
    assert figure.value == pytest.approx(PUBLISHED_MEANS[model], abs=0.11)
    assert not figure.is_estimated and figure.tasks == 130


def test_published_figures_are_means_of_the_raw_ones(scores: RawScores, by_name: Mapping[str, Purpose]) -> None:
    compared = 0
    for entry in catalog.entries():
        for figure in quality_figures(entry.id).values():
            if figure.purpose in by_name and not figure.is_estimated:
                tasks = by_name[figure.purpose].tasks
                assert figure.value == pytest.approx(np.mean([scores.mean(entry.id, t) for t in tasks]), abs=0.051)
                compared += 1
    assert compared > 1000


def test_figures_say_how_much_of_them_is_published(scores: RawScores, by_name: Mapping[str, Purpose]) -> None:
    for entry in catalog.entries():
        for figure in quality_figures(entry.id).values():
            assert 0 <= figure.value <= 100 and 0 <= figure.published <= figure.tasks and figure.source
            assert (figure.error > 0) == figure.is_estimated
            if figure.purpose in by_name:
                known = [task for task in by_name[figure.purpose].tasks if not np.isnan(scores.mean(entry.id, task))]
                assert figure.published == len(known)


def test_no_model_is_estimated_in_a_language_that_it_is_not_for() -> None:
    assert "retrieval:en" not in quality_figures("thenlper/gte-large-zh")
    for entry in catalog.entries():
        if "multilingual" not in entry.languages and len(entry.languages) == 1:
            estimated = {figure.purpose for figure in quality_figures(entry.id).values() if figure.is_estimated}
            languages = {name.partition(":")[2] for name in estimated} - {""}
            grades = measured_languages(entry.id) if is_multilingual(entry) else {}
            works = {code for code, grade in grades.items() if grade != "poor"}
            assert languages <= {*entry.languages, *works}, entry.id


def test_broken_runs_are_left_out() -> None:
    assert "long-documents" not in quality_figures("jinaai/jina-embeddings-v2-base-en")
    assert "long-documents" not in quality_figures("nomic-ai/nomic-embed-text-v1.5")


def test_models_are_estimated_for_what_they_are_for() -> None:
    for entry in catalog.entries():
        estimated = {figure.purpose for figure in quality_figures(entry.id).values() if figure.is_estimated}
        if entry.is_for_code:
            assert estimated <= {"code"}, entry.id
        elif entry.kind != "dense":
            assert all(name.startswith(("retrieval", "code")) for name in estimated), entry.id


def test_search_by_words_is_a_figure_to_beat() -> None:
    assert quality_figures(BM25)["retrieval:en"].value == pytest.approx(42.07, abs=0.05)
    assert quality_figures(BM25)["long-documents"].value == pytest.approx(90.87, abs=0.05)
    # The published run does not separate the words of Chinese.
    assert "retrieval:zh" not in quality_figures(BM25)


def test_shares_of_wins_are_those_of_the_raw_figures(scores: RawScores, by_name: Mapping[str, Purpose]) -> None:
    written = Path(catalog.__file__).parent / "quality" / "win_shares.toml"
    assert written.read_text(encoding="utf-8") == render_shares(scores, list(by_name.values()))
    shares = [share for _, share, _ in win_shares(scores, [by_name["retrieval:en"]])]
    assert shares == sorted(shares) and 0.5 < shares[0] < 0.65 and shares[-1] > 0.88


def test_a_small_lead_says_little() -> None:
    assert win_share("retrieval:en", 0.4) is None and win_share("pages", 5.0) is None
    assert win_share("retrieval:en", 1.0) == 0.63 and win_share("retrieval:en", 30.0) == 0.95
    assert win_share("retrieval:de", 1.0) == 0.67


def test_measured_languages_are_those_of_the_raw_figures(scores: RawScores) -> None:
    measured = read_languages(scores)
    for entry in catalog.entries():
        grades = {code: grade for grade, codes in measured.get(entry.id, {}).items() for code in codes}
        assert measured_languages(entry.id) == grades
    # Transliterations, of which models know less, do not decide.
    assert measured_languages("BAAI/bge-m3")["ar"] == "good"
    assert measured_languages("BAAI/bge-m3")["en"] == "good"


def test_multilingual_transformers_know_english(scores: RawScores) -> None:
    english = Task("BelebeleRetrieval", ("eng_Latn-eng_Latn",))
    values = [
        scores.mean(entry.id, english)
        for entry in catalog.entries()
        if "multilingual" in entry.languages and entry.family != "static" and measured_languages(entry.id)
        # Models of paraphrases are not for retrieval, which Belebele measures.
        if "paraphrase" not in entry.id
    ]
    assert len(values) > 15 and min(values) > 90


# -- estimates -------------------------------------------------------------------------------------------------------


def _low_rank(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    loadings = random.standard_normal((columns, 2)) * [[8.0, 4.0]]
    return random.standard_normal((rows, 2)) @ loadings.T + random.standard_normal((rows, columns)) + 50


def test_hidden_values_of_two_factors_are_estimated_within_their_noise() -> None:
    table = _low_rank(100, 30)
    hidden = np.random.default_rng(1).random(table.shape) < 0.4
    estimated = estimate(np.where(hidden, np.nan, table), factors=2)
    error = np.sqrt(np.mean((estimated.values - table)[hidden] ** 2))
    assert error < 1.35, "the noise is 1"
    assert np.median(np.sqrt(estimated.noise)) == pytest.approx(1, abs=0.2)


def test_the_covariance_is_that_of_scikit_learn_on_a_full_table() -> None:
    from sklearn.decomposition import FactorAnalysis

    table = _low_rank(400, 8)
    ours = estimate(table, factors=2, rounds=400)
    theirs = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(table)
    covariance = ours.loadings @ ours.loadings.T + np.diag(ours.noise)
    assert np.abs(covariance - theirs.get_covariance()).max() < 0.02 * np.abs(theirs.get_covariance()).max()


def test_the_error_of_estimates_is_that_of_hidden_figures() -> None:
    values = _low_rank(60, 12)
    tasks = tuple(Task(f"t{at}", ("default",)) for at in range(12))
    purpose = Purpose("retrieval:xx", "xx", tasks[:4])
    values[50:, :3] = np.nan
    table = ScoreTable([f"m{at}" for at in range(60)], {task: at for at, task in enumerate(tasks)}, values)
    held = hold_out(table, purpose, [purpose])
    assert held is not None and held.count == 50
    assert held.error < 0.3 * held.spread and held.ranks > 0.9
    nothing = hold_out(table, purpose, [purpose], "shape")
    assert nothing is not None and nothing.error > 2 * held.error, "the less is left of a model, the worse"
    found = dict(figures(table, fit_table(values), purpose, held, {"m55"}))
    assert "m56" not in found, "a model that is not for the language is not estimated"
    assert found["m55"].published == 1 and found["m55"].error >= 0.75 * held.error
    assert found["m3"].error == 0 and found["m3"].value == pytest.approx(values[3, :4].mean())


def test_claims_are_languages_of_the_catalogue_or_measured_ones(
    by_name: Mapping[str, Purpose], scores: RawScores
) -> None:
    measured = read_languages(scores)
    entries = [entry for entry in catalog.entries() if entry.id in ("BAAI/bge-m3", "BAAI/bge-small-zh-v1.5")]
    assert claims(by_name["retrieval:de"], entries, measured) == {"BAAI/bge-m3"}
    assert claims(by_name["retrieval:zh"], entries, measured) == {"BAAI/bge-m3", "BAAI/bge-small-zh-v1.5"}


def test_models_show_prints_figures_with_their_source() -> None:
    from nearfield.cli.terminal import model_report

    text = model_report.to_text("bge-m3", catalog.find("bge-m3"), None)
    german = quality_figures("BAAI/bge-m3")["retrieval:de"]
    assert re.search(rf"  retrieval: .*de {german.value:.1f} ±{german.error:.1f} \(9/19 tasks\)", text)
    assert "nearfield models figures BAAI/bge-m3" in text and "Measured good" in text


def test_the_raw_files_are_named_when_one_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="scores_suspicious"):
        read_scores(tmp_path)
