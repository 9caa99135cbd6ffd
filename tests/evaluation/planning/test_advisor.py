"""Advice: no constraint is ever broken, more room never makes it worse, and what is not known is said."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages import MULTILINGUAL, language_support
from nearfield.catalog.quality import BM25, measured_languages, quality_figures, win_share
from nearfield.catalog.quality.purposes import PURPOSES as FIGURE_PURPOSES
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.advice.advisor import advise
from nearfield.evaluation.planning.advice.approach import decision_tree, path_through
from nearfield.evaluation.planning.advice.candidates import MULTIMODAL_TEXTS
from nearfield.evaluation.planning.advice.purposes import PURPOSES, best_figure, figure_names
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.advice.roles import difference, is_safe
from nearfield.evaluation.planning.advice.vector_forms import best_form, losses
from nearfield.evaluation.planning.index_size import index_size
from nearfield.evaluation.planning.vector_model import CountOptions, count_vectors, read_vector_model
from tests.evaluation.planning.test_calibration import MEASURED
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing

REFERENCE = SHARED_FOLDER / "reference" / "catalogue.tsv"
LANGUAGES = ("en", "de", "zh", "fr", "sw", "hu")


def _needs() -> st.SearchStrategy[Requirements]:
    return st.builds(
        lambda purpose, kind, **options: Requirements(
            purpose=purpose, kind=PURPOSES[purpose].kinds[kind % len(PURPOSES[purpose].kinds)], **options
        ),
        purpose=st.sampled_from(sorted(PURPOSES)),
        kind=st.integers(0, 2),
        languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=3, unique=True).map(tuple),
        coverage=st.sampled_from(["all", "most"]),
        tokens=st.one_of(st.integers(1, 40_000), st.sampled_from([128, 129, 256, 257, 512, 513, 8192])),
        texts=st.integers(1, 10**8),
        queries_per_second=st.floats(0, 1000),
        query_tokens=st.integers(1, 200),
        memory=st.one_of(st.none(), st.integers(1, 2**40)),
        commercial=st.booleans(),
        licences=st.one_of(
            st.just(()), st.lists(st.sampled_from(["mit", "apache-2.0", "gemma"]), min_size=1).map(tuple)
        ),
        index_hours=st.one_of(st.none(), st.floats(0.01, 10_000)),
        reranked=st.integers(1, 200),
    )


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(need=_needs(), measured=st.booleans(), count=st.integers(1, 200))
def test_no_constraint_is_ever_broken(need: Requirements, measured: bool, count: int) -> None:
    advice = advise(need, MEASURED if measured else None, count=count)
    assert len(advice["candidates"]) == min(count, advice["fitting"])
    assert advice["fitting"] + sum(advice["ruled_out"].values()) == len(catalog.entries())
    for candidate in advice["candidates"]:
        entry = _find(candidate["id"])
        _check_entry(need, entry)
        memory = (candidate["memory"]["model"] or 0) + (candidate["memory"]["vectors"] or 0)
        assert need.memory is None or memory <= need.memory
        speed = candidate["speed"]
        if speed is not None:
            is_free = entry.static_queries or not need.aim.has_queries
            assert is_free == (speed["queries_per_second"] is None)
            assert is_free or speed["queries_per_second"] >= need.queries_per_second * 0.999 - 0.005
            assert need.index_hours is None or (speed["seconds_to_index"] or 0) <= need.index_hours * 3600 * 1.001


def _check_entry(need: Requirements, entry: CatalogEntry) -> None:
    assert entry.kind == need.output and PURPOSES[need.purpose].reads in entry.modalities
    assert entry.commercial or not need.commercial
    assert not need.licences or entry.licence in need.licences
    assert entry.stage == "finished"
    if need.aim.reads == "text":
        assert all(language_support(entry, language).grade != "poor" for language in need.languages)
        assert need.tokens <= entry.max_length


def _find(name: str) -> CatalogEntry:
    entry = catalog.find(name)
    assert entry is not None
    return entry


@settings(max_examples=30, deadline=None)
@given(need=_needs())
def test_what_is_proposed_bears_its_publishers_facts(need: Requirements) -> None:
    if not REFERENCE.exists():
        missing(f"the reference table is not here ({REFERENCE})")
    published = _published()
    for candidate in advise(need, count=200)["candidates"]:
        row = published.get(candidate["id"])
        if row is None:
            continue
        if row["max_tokens"] not in ("", "np.inf") and need.aim.reads == "text":
            assert need.tokens <= float(row["max_tokens"])
        if need.commercial and row["license"]:
            assert "nc" not in row["license"].lower().split("-")


def _published() -> dict[str, dict[str, str]]:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}


def test_every_finished_model_that_fits_a_plain_need_can_be_proposed() -> None:
    need = Requirements("general", tokens=1, texts=1, index_hours=None, queries_per_second=0, commercial=False)
    proposed = {candidate["id"] for candidate in advise(need, count=200)["candidates"]}
    english = [entry for entry in catalog.entries() if {"en", "multilingual"} & set(entry.languages)]
    texts = [entry for entry in english if entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS]
    dense = {entry.id for entry in texts if entry.kind == "dense" and entry.stage == "finished"}
    assert proposed == {name for name in dense if not _find(name).is_for_code}


# -- more room never makes the first worse ---------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(need=_needs(), times=st.floats(1, 100), measured=st.booleans())
def test_more_memory_never_makes_the_first_worse(need: Requirements, times: float, measured: bool) -> None:
    speed = MEASURED if measured else None
    roomier = replace(need, memory=None if need.memory is None else int(need.memory * times))
    assert _behind(advise(roomier, speed)) <= _behind(advise(need, speed))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(need=_needs(), measured=st.booleans())
def test_a_looser_licence_or_more_time_never_makes_the_first_worse(need: Requirements, measured: bool) -> None:
    speed = MEASURED if measured else None
    before = _behind(advise(need, speed))
    for looser in ({"licences": ()}, {"commercial": False}, {"index_hours": None}, {"queries_per_second": 0.0}):
        assert _behind(advise(replace(need, **looser), speed)) <= before


def _behind(advice: JsonDict) -> float:
    """Return how far the first candidate is behind the best; more where that is not known, most without any."""
    if not advice["candidates"]:
        return 1000.0
    behind = advice["candidates"][0]["behind"]
    return 500.0 if behind is None else float(behind)


@pytest.mark.parametrize("purpose", sorted(PURPOSES))
def test_the_order_does_not_depend_on_what_else_fits(purpose: str) -> None:
    need = Requirements(purpose, tokens=100, commercial=False)
    candidates = advise(need, count=200)["candidates"]
    order = [(one["behind"], one["id"]) for one in candidates if one["roles"] == ["next"]]
    known = [behind for behind, _ in order if behind is not None]
    assert known == sorted(known) and [behind for behind, _ in order[: len(known)]] == known
    assert all(candidates[0]["behind"] <= (one["behind"] or 100) for one in candidates)
    for behind, name in order[:5]:
        (alone,) = advise(need, entries=[_find(name)])["candidates"]
        assert alone["behind"] == behind


# -- quality ---------------------------------------------------------------------------------------------------------


def test_the_distance_to_the_best_is_that_of_the_figures() -> None:
    best = best_figure("retrieval:de")
    assert best == max(
        figure.value - figure.error / 2
        for entry in catalog.entries()
        if (figure := quality_figures(entry.id).get("retrieval:de")) is not None
    )
    advice = advise(Requirements(languages=("de",), tokens=100), count=200)
    for candidate in advice["candidates"]:
        if candidate["behind"] is not None:
            figure = quality_figures(candidate["id"])["retrieval:de"]
            assert candidate["behind"] == pytest.approx(best - figure.value + figure.error / 2, abs=0.01)
            assert candidate["quality"]["de"]["source"] == figure.source


def test_all_languages_count_by_the_worst_and_most_by_the_mean() -> None:
    languages = ("de", "fr", "pl")
    single = {language: _behind_by_id(Requirements(languages=(language,))) for language in languages}
    together = _behind_by_id(Requirements(languages=languages))
    mean = _behind_by_id(Requirements(languages=languages, coverage="most"))
    known = [name for name, behind in together.items() if behind is not None]
    assert len(known) > 10
    for name in known:
        parts = [single[language][name] for language in languages]
        assert together[name] == pytest.approx(max(parts), abs=0.02)
        assert mean[name] == pytest.approx(sum(parts) / 3, abs=0.02)


def _behind_by_id(need: Requirements) -> dict[str, Any]:
    return {one["id"]: one["behind"] for one in advise(need, count=200)["candidates"]}


def test_a_language_without_figures_is_compared_by_many_and_says_so() -> None:
    advice = advise(Requirements(languages=("hu",)))
    assert advice["figures"] == {"hu": "retrieval:multilingual"}
    assert any("retrieval in hu" in sentence for sentence in advice["summary"])
    assert figure_names(PURPOSES["rerank"], ("en", "de")) == {"en": "rerank:en", "de": "rerank:multilingual"}


def test_nothing_is_guessed_where_nothing_is_published() -> None:
    advice = advise(Requirements("rerank", tokens=100), entries=[_find("cross-encoder/ms-marco-MiniLM-L6-v2")])
    (candidate,) = advice["candidates"]
    assert candidate["quality"] == {} and candidate["behind"] is None and candidate["roles"] == ["start"]
    assert "39.01 on MS MARCO MRR@10 (model card), which is not compared" in candidate["reasons"]
    assert any("nothing is published" in text for text in candidate["unknown"])
    assert "nothing is published" in advice["summary"][0]


def test_what_finds_less_than_words_is_not_proposed_for_search() -> None:
    words = quality_figures(BM25)["retrieval:en"].value
    advice = advise(Requirements(commercial=False), count=200)
    assert advice["words"] == {"en": words}
    below = _minilm(id="minishlab/potion-base-8M")
    assert quality_figures(below.id)["retrieval:en"].value < words
    assert advise(Requirements(), entries=[below])["ruled_out"]["worse than search by words (BM25)"] == 1
    assert len(advice["candidates"]) > 40
    assert all(one["quality"]["en"]["value"] >= words for one in advice["candidates"] if one["quality"])
    assert all(_find(one["id"]).family != "static" for one in advice["candidates"])


@pytest.mark.parametrize(
    ("points", "word"),
    [(0.0, "alike"), (1.9, "alike"), (2.0, "probably better"), (8.0, "probably better"), (8.1, "better")],
)
def test_a_difference_has_its_word(points: float, word: str) -> None:
    assert difference(points) == difference(-points) == word


def test_a_comparison_says_how_often_such_a_lead_held() -> None:
    for candidate in advise(Requirements(), count=60)["candidates"][1:]:
        comparison = candidate["comparison"]
        if comparison is not None:
            assert comparison["verdict"] == difference(comparison["points"])
            if abs(comparison["points"]) > 8:
                assert comparison["share"] == win_share("retrieval:en", 10.0)


# -- candidates that differ in kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["retrieval", "general", "sts", "clustering", "code", "images"])
def test_candidates_differ_in_kind(purpose: str) -> None:
    advice = advise(Requirements(purpose, tokens=100), MEASURED)
    roles = [role for candidate in advice["candidates"] for role in candidate["roles"]]
    assert len(advice["candidates"]) == 3 and roles[0] == "best" and "safe" in roles
    first = advice["candidates"][0]
    for candidate in advice["candidates"]:
        assert candidate["rule"]
        if "safe" in candidate["roles"]:
            assert is_safe(_find(candidate["id"]))
            assert not any(figure["estimated"] for figure in candidate["quality"].values())
        if "small" in candidate["roles"] and candidate is not first:
            sizes = [_find(one["id"]).parameters or 0 for one in (candidate, first)]
            assert sizes[0] <= sizes[1] / 2 and candidate["behind"] - first["behind"] <= 8.01


# -- forms of vectors ------------------------------------------------------------------------------------------------


def _minilm(**changed: Any) -> CatalogEntry:
    return replace(_find("all-MiniLM-L6-v2"), **changed)


def test_storage_and_time_are_those_of_hand_calculation() -> None:
    need = Requirements("sts", tokens=100, texts=1_000_000, index_hours=None, queries_per_second=0)
    (candidate,) = advise(need, MEASURED, entries=[_minilm()])["candidates"]
    assert candidate["memory"]["vectors"] == 1_000_000 * 384 * 4
    assert candidate["storage"]["lancedb"] == 1_000_000 * (2 * 384 * 4 + 8)
    # 22,713,216 parameters of 8 bytes, and what any model takes.
    assert candidate["memory"]["model"] == 22_713_216 * 8 + 100 * 2**20
    # 6 layers of 12 x 384 x 384 weights, and attention over 100 tokens.
    token = 1e-5 + 6 * (12 * 384**2 * 1.2e-11 + 100 * 384 * 6e-11)
    assert candidate["speed"]["tokens_per_second"] == pytest.approx(1 / token, rel=1e-3)
    assert candidate["speed"]["seconds_to_index"] == pytest.approx(1e8 * token, rel=1e-3)


def test_vectors_are_quantised_where_the_memory_is_short() -> None:
    base = 22_713_216 * 8 + 100 * 2**20
    for room, dtype in ((1536, "float32"), (1535, "int8"), (384, "int8"), (383, "binary"), (48, "binary")):
        need = Requirements("general", texts=1_000_000, memory=base + room * 1_000_000, index_hours=None)
        (candidate,) = advise(need, MEASURED, entries=[_minilm()])["candidates"]
        assert candidate["memory"]["dtype"] == dtype
        assert any("of the quality" in text for text in candidate["against"]) == (dtype != "float32")
    smaller = Requirements("sts", texts=1_000_000, memory=base + 47_000_000, index_hours=None)
    nothing = advise(smaller, MEASURED, entries=[_minilm()])
    assert nothing["candidates"] == [] and nothing["ruled_out"]["by memory"] == 1
    assert {"change": "no limit of memory", "models": 1} in nothing["ways_out"]


def test_the_best_form_that_fits_is_chosen() -> None:
    nomic = _find("nomic-ai/nomic-embed-text-v1.5")
    for room, form in ((768 * 4, (768, "float32")), (768, (768, "int8")), (767, (512, "int8")), (511, (256, "int8"))):
        chosen = best_form(nomic, 1000, room * 1000)
        assert (chosen.dimensions, chosen.dtype) == form
        assert chosen.bytes is not None and chosen.bytes <= room * 1000
    assert best_form(nomic, 1000, None).share == 1.0
    shares = [best_form(nomic, 1000, room * 1000).share for room in range(8, 3100, 50)]
    assert shares == sorted(shares), "more room never costs quality"


def test_every_loss_has_a_source() -> None:
    for rows in losses().values():
        assert all(row["source"] and 0 < row["share"] <= 1 for row in rows)


def test_pictures_cost_their_patches() -> None:
    need = Requirements("images", texts=1000)
    (candidate,) = advise(need, MEASURED, entries=[_find("openai/clip-vit-base-patch32")])["candidates"]
    speed = candidate["speed"]
    assert speed["texts_per_second"] == pytest.approx(speed["tokens_per_second"] / 49, rel=0.01)


# -- the report ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"revision": None, "package": None}, "no revision"),
        ({"gated": True}, "HF_TOKEN"),
        ({"commercial": False}, "does not allow commercial use"),
        ({"languages": ("multilingual",)}, "neither measured nor listed"),
        ({"id": "someone/else"}, "its shape"),
        ({"id": "someone/else"}, "nothing is published"),
        ({}, "not on this machine"),
    ],
)
def test_what_speaks_against_a_model_and_what_is_not_known_is_said(changed: dict[str, Any], said: str) -> None:
    need = Requirements("sts", languages=("la",) if "languages" in changed else ("en",), commercial=False)
    (candidate,) = advise(need, entries=[_minilm(**changed)])["candidates"]
    assert any(said in text for text in [*candidate["against"], *candidate["unknown"]])
    (plain,) = advise(Requirements("sts"), MEASURED, entries=[_minilm()], here={_minilm().id})["candidates"]
    assert plain["against"] == [] and plain["unknown"] == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory": 6 * 10**9}, "by its memory"),
        ({"index_hours": 1.0, "texts": 10_000, "queries_per_second": 0}, "as too slow to embed everything in time"),
        ({"licences": ("mit",)}, "by its licence"),
    ],
)
def test_the_best_that_does_not_fit_is_named_with_the_reason(options: dict[str, Any], reason: str) -> None:
    advice = advise(Requirements(**options), MEASURED if "index_hours" in options else None)
    assert advice["summary"][-1].startswith("Not Qwen/Qwen3-Embedding-8B") and reason in advice["summary"][-1]
    assert not any(sentence.startswith("Not ") for sentence in advise(Requirements())["summary"])
    coarser = advise(Requirements(texts=1_000_000, memory=34 * 10**9, index_hours=None))
    assert coarser["candidates"][0]["memory"]["dtype"] == "int8"
    assert not any(sentence.startswith("Not Qwen/Qwen3-Embedding-8B") for sentence in coarser["summary"])


def test_steps_on_the_way_to_a_model_are_not_proposed() -> None:
    steps = [entry for entry in catalog.entries() if entry.stage != "finished"]
    assert len(steps) >= 7
    for entry in steps:
        need = Requirements("code" if entry.is_for_code else "retrieval", kind=entry.kind, tokens=10, commercial=False)
        assert advise(need, entries=[entry])["ruled_out"]["not trained to the end"] == 1


def test_a_reranker_reads_fewer_texts_where_many_are_too_slow() -> None:
    entry = _find("cross-encoder/ms-marco-MiniLM-L6-v2")
    depths = []
    for rate in (0.1, 0.6, 1.0, 5.0):
        advice = advise(Requirements("rerank", tokens=200, queries_per_second=rate), MEASURED, entries=[entry])
        depths += [candidate["speed"]["reranked"] for candidate in advice["candidates"]]
        if rate == 5.0:
            assert {"change": "fewer queries a second, or a GPU (--on)", "models": 1} in advice["ways_out"]
    assert depths == [50, 20, 10]


def test_the_tree_has_an_answer_for_everything() -> None:
    for question in decision_tree():
        assert question.answers[-1].applies("anything" if question.fact not in ("tokens", "texts") else 10**9)
        for answer in question.answers:
            assert answer.advice and answer.because and answer.source
    path = {
        question.fact: answer.label
        for question, answer in path_through({"purpose": "retrieval", "tokens": 513, "texts": 9999}, "retrieval")
    }
    assert path == {"purpose": "search by meaning", "tokens": "513 to 2,048", "texts": "fewer than 10,000"}


#: Figures that the tree cites: model, purpose, and the number as it is printed.
CITED = (
    ("Qwen/Qwen3-Embedding-0.6B", "code", "75.4"),
    ("Qwen/Qwen3-Embedding-8B", "code", "80.7"),
    ("lightonai/LateOn-Code", "code", "74.1"),
    ("ibm-granite/granite-embedding-english-r2", "code", "57.2"),
    (BM25, "code", "44.4"),
    (BM25, "long-documents", "90.9"),
    ("ibm-granite/granite-embedding-311m-multilingual-r2", "long-documents", "71.7"),
    ("lightonai/GTE-ModernColBERT-v1", "long-documents", "90.6"),
    ("Snowflake/snowflake-arctic-embed-m-v1.5", "retrieval:en", "58.1"),
    ("intfloat/multilingual-e5-base", "retrieval:en", "49.0"),
    ("Snowflake/snowflake-arctic-embed-l", "retrieval:en", "59.0"),
    ("Snowflake/snowflake-arctic-embed-l", "general:en", "62.0"),
    ("BAAI/bge-large-en-v1.5", "retrieval:en", "55.4"),
    ("BAAI/bge-large-en-v1.5", "general:en", "65.9"),
)


@pytest.mark.parametrize(("model", "purpose", "number"), CITED)
def test_figures_in_the_tree_are_those_of_the_table(model: str, purpose: str, number: str) -> None:
    figure = quality_figures(model)[purpose]
    said = " ".join(answer.because for question in decision_tree() for answer in question.answers)
    assert not figure.is_estimated and f"{figure.value:.1f}" == number and number in said


def test_languages_in_the_tree_are_those_of_the_table() -> None:
    grades = [measured_languages(entry.id) for entry in catalog.entries() if MULTILINGUAL in entry.languages]
    good = [list(grade.values()).count("good") for grade in grades if grade]
    said = " ".join(answer.because for question in decision_tree() for answer in question.answers)
    assert f"good in {min(good)} to {max(good)}." in said


@pytest.mark.parametrize("purpose", sorted(PURPOSES))
def test_every_purpose_has_a_way(purpose: str) -> None:
    advice = advise(Requirements(purpose, tokens=100, texts=1000))
    assert advice["approach"][0]["question"] == decision_tree()[0].ask and advice["candidates"]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "dens"},
        {"kind": "scores"},
        {"purpose": "search"},
        {"coverage": "some"},
        {"languages": ()},
        {"languages": ("English",)},
        {"languages": ("en", "xx")},
        {"tokens": 0},
        {"memory": 0},
        {"reranked": 0},
        {"queries_per_second": -1},
        {"queries_per_second": float("nan")},
        {"index_hours": float("inf")},
    ],
)
def test_a_need_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Requirements(**options)


def test_late_interaction_stores_what_size_counts() -> None:
    need = Requirements(kind="multivector", tokens=180, texts=1000)
    (advised,) = advise(need, entries=[_find("colbertv2")])["candidates"]
    counted = count_vectors(read_vector_model("colbertv2"), CountOptions(tokens=180)).per_text
    assert advised["memory"]["vectors"] == math.ceil(1000 * counted) * 128 * 4
    assert any(f"{counted:,.0f} times as many" in text for text in advised["against"])


def test_the_disk_of_two_stages_holds_whole_vectors_too() -> None:
    need = Requirements(texts=30_000_000, tokens=20, memory=8 * 10**9)
    (bits,) = advise(need, entries=[_find("arctic-s")])["candidates"]
    whole = index_size(30_000_000, 384, index="lancedb").total
    assert bits["memory"]["dtype"] == "binary" and bits["storage"]["whole"] == whole
    assert bits["storage"]["lancedb"] == whole + index_size(30_000_000, 384, "binary", "lancedb").total
    (roomy,) = advise(replace(need, memory=None), entries=[_find("arctic-s")])["candidates"]
    assert roomy["storage"]["whole"] == 0


def test_the_purposes_of_advice_and_of_figures_agree() -> None:
    """Labels for pictures are figures of pictures; every other purpose has figures of its name."""
    bases = {name: purpose.figure.partition(":")[0] for name, purpose in PURPOSES.items()}
    assert set(bases) - {"image-labels"} == set(FIGURE_PURPOSES) and bases["image-labels"] == "images"
    own = {name: base for name, base in bases.items() if name not in ("long-documents", "image-labels")}
    assert own == {name: name for name in own}
    english = figure_names(PURPOSES["long-documents"], ("en",))
    assert english == {"en": "long-documents"}


def test_a_candidate_of_another_publisher_is_not_larger_and_differences_are_by_language() -> None:
    need = Requirements(languages=("de", "en"), tokens=300, memory=16 * 10**9)
    candidates = advise(need)["candidates"]
    first = candidates[0]
    for one in candidates[1:]:
        if one["roles"] == ["other"]:
            assert (_find(one["id"]).parameters or 0) <= (_find(first["id"]).parameters or 0)
        for language, points in one["comparison"]["languages"].items():
            difference_here = one["quality"][language]["value"] - first["quality"][language]["value"]
            assert points == pytest.approx(difference_here, abs=0.06)
    assert all(set(one["comparison"]["languages"]) == {"de", "en"} for one in candidates[1:])


def test_the_commands_that_judge_name_a_file_of_queries() -> None:
    """Without queries the command is refused."""
    tree = [answer.command or "" for question in decision_tree() for answer in question.answers]
    commands = [*tree, *advise(Requirements())["next"], *advise(Requirements("rerank"))["next"]]
    judging = [command for command in commands if "nearfield judge" in command]
    assert len(judging) == 3 and all("--queries" in command for command in judging)
