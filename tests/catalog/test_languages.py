"""What is known of models in languages: measured, listed, or neither; and the codes of languages."""

from __future__ import annotations

import dataclasses

import pytest

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages import MULTILINGUAL, language_support, listed_languages
from nearfield.catalog.languages.codes import find_language, language_code, language_name
from nearfield.catalog.quality import measured_languages
from nearfield.errors import InputError


def entry_of(name: str) -> CatalogEntry:
    entry = catalog.find(name)
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("model", "code", "grade"),
    [
        ("bge-m3", "de", "good"),
        ("bge-m3", "yo", "weak"),
        ("bge-m3", "bod", "poor"),
        ("bge-m3", "ast", "listed"),
        ("bge-m3", "tlh", "unknown"),
        ("bge-m3-unsupervised", "de", "listed"),
        ("bge-m3-unsupervised", "pl", "unknown"),
        ("bge-small", "de", "weak"),
        ("bge-small", "zh", "poor"),
        ("bge-small-zh", "zh", "listed"),
        ("bge-small-zh", "en", "unknown"),
        ("gte-base-en", "de", "unknown"),
        ("qwen3-reranker", "de", "listed"),
        ("siglip2", "de", "unknown"),
        ("dinov2-base", "en", "unknown"),
        ("nomic-embed-vision", "en", "listed"),
    ],
)
def test_the_grade_of_a_language(model: str, code: str, grade: str) -> None:
    support = language_support(entry_of(model), code)
    assert support.grade == grade
    assert support.is_usable == (grade in ("good", "weak", "listed"))
    assert support.source


def test_english_is_the_measure_of_other_languages_and_has_no_grade() -> None:
    for entry in catalog.entries():
        expected = "listed" if {"en", MULTILINGUAL} & set(entry.languages) else "unknown"
        if "text" in entry.modalities:
            assert language_support(entry, "en").grade == expected, entry.id


def test_what_is_measured_counts_for_more_than_a_list() -> None:
    entry = dataclasses.replace(entry_of("bge-m3"), languages=("bo", "ace"))
    assert language_support(entry, "bo").grade == "poor"
    assert language_support(entry, "ace").source == "the catalogue"
    assert "Belebele" in language_support(entry, "bo").source
    assert "mteb" in language_support(entry_of("bge-m3-unsupervised"), "de").source
    assert "Qwen3-Embedding-0.6B" in language_support(entry_of("qwen3-reranker"), "de").source


@pytest.mark.parametrize(
    ("model", "languages"),
    [
        ("mixedbread-ai/deepset-mxbai-embed-de-large-v1", "de en"),
        ("e5-mistral", "de en es fr it"),
        ("lightonai/mLateOn", "ar de en es fr it no pt sv"),
        ("granite-107m", "ar cs de en es fr it ja ko nl pt zh"),
        ("granite-278m", "ar cs de en es fr it ja ko nl pt zh"),
    ],
)
def test_models_of_several_languages_name_them(model: str, languages: str) -> None:
    assert entry_of(model).languages == listed_languages(entry_of(model)) == tuple(languages.split())


def test_all_languages_of_the_catalogue_are_codes() -> None:
    for entry in catalog.entries():
        for code in (*listed_languages(entry), *measured_languages(entry.id)):
            assert find_language(code) == code, (entry.id, code)


@pytest.mark.parametrize(
    ("text", "code"),
    [("de", "de"), (" DEU ", "de"), ("ger", "de"), ("pt-BR", "pt"), ("zh_Hant", "zh"), ("hat", "ht"), ("fil", "tl")],
)
def test_a_language_has_one_code_in_all_forms(text: str, code: str) -> None:
    assert language_code(text) == code


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("german", "Did you mean 'de' (German)?"),
        ("Deutsch", "Did you mean 'de' (German)?"),
        ("portugese", "'pt' (Portuguese)"),
        ("xx", "such as de"),
        ("", "such as de"),
        ("123", "such as de"),
    ],
)
def test_an_unknown_code_is_refused_with_similar_languages(text: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        language_support(entry_of("bge-m3"), text)
    assert repr(text) in str(refused.value) and hint in str(refused.value)


def test_names_of_languages() -> None:
    assert language_name("de") == "German" and language_name("deu") == "German" and language_name("kac") == "Kachin"


def test_the_table_of_names_is_that_of_its_source() -> None:
    pytest.importorskip("babel")
    from tools.quality.languages import TARGET, render_names

    assert (TARGET / "names.toml").read_text(encoding="utf-8") == render_names()


def test_lists_are_of_multilingual_models_and_in_order() -> None:
    pytest.importorskip("babel")
    from tools.quality.languages import render_lists

    text = render_lists(
        {"BAAI/bge-m3": ["deu-Latn", "eng-Latn", "zho-Hans", "zho-Hant"], "intfloat/e5-base": ["eng-Latn", "deu-Latn"]},
        {"BAAI/bge-m3-unsupervised": "BAAI/bge-m3"},
    )
    assert text.count('codes = "de en zh"') == 2 and 'series = "BAAI/bge-m3"' in text
    assert "e5-base" not in text
