"""Twelve needs as users have them: each candidate is supported by a rule of the field, and none is forbidden by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages import language_support
from nearfield.catalog.quality import BM25, quality_figures
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.advice.advisor import advise
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.speed.machines import read_machines
from nearfield.evaluation.planning.speed.roofline import MachineSpeed

Rule = Callable[[Requirements, CatalogEntry], bool]


# -- rules of the field ----------------------------------------------------------------------------------------------


def has_figures_for_the_purpose(need: Requirements, entry: CatalogEntry) -> bool:
    """A choice rests on published results for the purpose, in each language, not on one score for all."""
    known = quality_figures(entry.id)
    stem = {"long-documents": "retrieval"}.get(need.purpose, need.purpose)
    return all(f"{stem}:{language}" in known or stem in known for language in need.languages)


def is_known_in_the_language(need: Requirements, entry: CatalogEntry) -> bool:
    """Multilingual is no property: the language was measured, or is listed."""
    return all(language_support(entry, language).is_usable for language in need.languages)


def is_a_small_encoder(need: Requirements, entry: CatalogEntry) -> bool:
    """On a small machine an encoder below 400 million parameters does the work."""
    return (entry.parameters or 0) < 400_000_000


def was_trained_on_code_or_measured_on_it(need: Requirements, entry: CatalogEntry) -> bool:
    """Source code has its own benchmark."""
    return "code" in quality_figures(entry.id) or entry.is_for_code


def reads_pictures_and_words(need: Requirements, entry: CatalogEntry) -> bool:
    """Words find pictures only in a space that both share."""
    return {"text", "image"} <= set(entry.modalities)


def is_free_for_business(need: Requirements, entry: CatalogEntry) -> bool:
    """Non-commercial licences are out for a company."""
    return entry.commercial and "nc" not in entry.licence.split("-")


def is_a_large_decoder(need: Requirements, entry: CatalogEntry) -> bool:
    """The best figures are those of embedders that were language models."""
    return (entry.parameters or 0) > 3_000_000_000


def is_a_static_table(need: Requirements, entry: CatalogEntry) -> bool:
    """Tables of word vectors find less than search by words."""
    return entry.family == "static"


def loses_to_words(need: Requirements, entry: CatalogEntry) -> bool:
    """A model below BM25 on the same tasks is not worth its cost."""
    figure, words = quality_figures(entry.id).get("retrieval:en"), quality_figures(BM25)["retrieval:en"]
    return need.languages == ("en",) and figure is not None and figure.value < words.value


def fails_in_a_language(need: Requirements, entry: CatalogEntry) -> bool:
    """No model that was measured to fail in a language, or that is for others alone."""
    return any(language_support(entry, language).grade == "poor" for language in need.languages)


def cuts_the_text(need: Requirements, entry: CatalogEntry) -> bool:
    """A model that reads less than a text silently leaves out the rest."""
    return need.tokens > entry.max_length


def is_unfinished(need: Requirements, entry: CatalogEntry) -> bool:
    """Checkpoints on the way to a model are no models."""
    return entry.stage != "finished"


FORBIDDEN_FOR_SEARCH: tuple[Rule, ...] = (is_a_static_table, loses_to_words, fails_in_a_language, is_unfinished)


# -- scenarios -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A need on a machine; every candidate meets the rules in ``supports`` and none in ``forbids``."""

    need: Requirements
    machine: str
    supports: tuple[Rule, ...]
    forbids: tuple[Rule, ...] = FORBIDDEN_FOR_SEARCH
    advice: str = ""


GB = 10**9
SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "English short texts on a laptop": Scenario(
            Requirements(tokens=60, texts=100_000, memory=8 * GB),
            "M2",
            (has_figures_for_the_purpose,),
            advice="hybrid",
        ),
        "a support desk in German, French and Polish": Scenario(
            Requirements(languages=("de", "fr", "pl"), tokens=200, texts=300_000, queries_per_second=5),
            "L4",
            (has_figures_for_the_purpose, is_known_in_the_language),
            advice="works least well",
        ),
        "Arabic and Hindi": Scenario(
            Requirements(languages=("ar", "hi"), tokens=200, texts=100_000),
            "L4",
            (has_figures_for_the_purpose, is_known_in_the_language),
        ),
        "a shop in Chinese and English": Scenario(
            Requirements(languages=("zh", "en"), tokens=100, texts=1_000_000),
            "L4",
            (has_figures_for_the_purpose, is_known_in_the_language),
        ),
        "contracts of 8,000 tokens in German": Scenario(
            Requirements("long-documents", languages=("de",), tokens=8000, texts=5_000),
            "RTX 4090",
            (has_figures_for_the_purpose, is_known_in_the_language),
            (*FORBIDDEN_FOR_SEARCH, cuts_the_text),
            advice="hybrid",
        ),
        "source code": Scenario(
            Requirements("code", tokens=400, texts=200_000),
            "RTX 4090",
            (was_trained_on_code_or_measured_on_it,),
            (is_a_static_table, is_unfinished, cuts_the_text),
            advice="functions",
        ),
        "a FAQ of 300 lines": Scenario(
            Requirements(tokens=60, texts=300),
            "8 vCPU",
            (has_figures_for_the_purpose,),
            advice="no index is needed",
        ),
        "50 million products in 4 GB": Scenario(
            Requirements(tokens=40, texts=50_000_000, memory=4 * GB, index_hours=200),
            "8 vCPU",
            (has_figures_for_the_purpose, is_a_small_encoder),
            advice="whole vectors on disk",
        ),
        "photos of a telephone": Scenario(
            Requirements("images", texts=20_000),
            "M2",
            (reads_pictures_and_words,),
            (is_unfinished,),
            advice="OCR",
        ),
        "legal texts, commercial licence alone": Scenario(
            Requirements("long-documents", tokens=2_000, texts=20_000, licences=("apache-2.0", "mit")),
            "L4",
            (is_free_for_business,),
            (*FORBIDDEN_FOR_SEARCH, cuts_the_text),
            advice="hybrid",
        ),
        "a CPU with 2 GB": Scenario(
            Requirements(tokens=256, texts=50_000, memory=2 * GB),
            "8 vCPU",
            (has_figures_for_the_purpose, is_a_small_encoder),
        ),
        "a GPU of 24 GB, the best quality": Scenario(
            Requirements(tokens=256, texts=100_000),
            "RTX 4090",
            (has_figures_for_the_purpose,),
        ),
    }
)


@pytest.fixture(scope="module", params=list(SCENARIOS))
def advised(request: pytest.FixtureRequest) -> tuple[Scenario, JsonDict]:
    scenario = SCENARIOS[request.param]
    return scenario, advise(scenario.need, MachineSpeed(read_machines().find(scenario.machine)))


def test_there_are_twelve() -> None:
    assert len(SCENARIOS) == 12


def test_candidates_are_supported_by_rules_and_forbidden_by_none(advised: tuple[Scenario, JsonDict]) -> None:
    scenario, advice = advised
    assert 1 <= len(advice["candidates"]) <= 3, advice["ruled_out"]
    for candidate in advice["candidates"]:
        entry = catalog.find(candidate["id"])
        assert entry is not None
        for rule in scenario.supports:
            assert rule(scenario.need, entry), (entry.id, rule.__doc__)
        for rule in scenario.forbids:
            assert not rule(scenario.need, entry), (entry.id, rule.__doc__)


def test_the_way_is_advised_beside_the_model(advised: tuple[Scenario, JsonDict]) -> None:
    scenario, advice = advised
    said = " ".join(f"{step['advice']} {step['because']}" for step in advice["approach"])
    assert scenario.advice in said or scenario.advice.capitalize() in said


def test_a_consultant_says_it_in_a_sentence(advised: tuple[Scenario, JsonDict]) -> None:
    _, advice = advised
    first = advice["candidates"][0]
    assert advice["summary"][0].startswith(f"Take {first['id']}")
    assert first["commands"] and advice["next"]


def test_the_best_on_a_large_gpu_is_large() -> None:
    scenario = SCENARIOS["a GPU of 24 GB, the best quality"]
    speed = MachineSpeed(read_machines().find(scenario.machine))
    first = catalog.find(advise(scenario.need, speed)["candidates"][0]["id"])
    assert first is not None and is_a_large_decoder(scenario.need, first)


@pytest.mark.parametrize("name", ["L4", "RTX 4090", "Raspberry Pi 5", "8 vCPU AVX2"])
def test_a_model_fits_the_memory_of_the_machine(name: str) -> None:
    speed = MachineSpeed(read_machines().find(name))
    advice = advise(Requirements("general", tokens=50, index_hours=None, queries_per_second=0), speed, count=200)
    assert advice["fitting"] > 20
    assert all(candidate["memory"]["model"] <= speed.capacity for candidate in advice["candidates"])
    largest = catalog.find("Qwen/Qwen3-Embedding-8B")
    assert largest is not None
    assert (speed.model_bytes(largest.parameters or 0) > speed.capacity) == (
        largest.id not in {candidate["id"] for candidate in advice["candidates"]}
    )


def test_short_forms_are_chosen_for_many_vectors() -> None:
    scenario = SCENARIOS["50 million products in 4 GB"]
    advice = advise(scenario.need, MachineSpeed(read_machines().find(scenario.machine)))
    for candidate in advice["candidates"]:
        assert candidate["memory"]["dtype"] == "binary"
        assert any("--feature short=dense:binary" in command for command in candidate["commands"])
