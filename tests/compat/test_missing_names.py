"""Names of sentence-transformers that are not in our package: the error says where they are."""

from __future__ import annotations

import importlib
import logging

import pytest

import nearfield.compat.sentence_transformers as ours
from nearfield.compat.sentence_transformers.old_names import ELSEWHERE

PACKAGE = ours.__name__


@pytest.mark.parametrize("name", ["InputExample", "evaluation", "readers", "losses", "SentenceTransformerTrainer"])
def test_a_name_is_in_the_original(name: str) -> None:
    with pytest.raises(ImportError, match=f"has no '{name}'. Import it from sentence_transformers itself"):
        exec(f"from {PACKAGE} import {name}")


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("evaluation", "from sentence_transformers itself"),
        ("readers", "from sentence_transformers itself"),
        ("SentenceTransformer", f"Import SentenceTransformer from {PACKAGE}"),
        ("sparse_encoder", f"Import SparseEncoder from {PACKAGE}"),
    ],
)
def test_a_module_is_elsewhere(module: str, advice: str) -> None:
    with pytest.raises(ImportError, match=advice):
        importlib.import_module(f"{PACKAGE}.{module}")


def test_other_names_have_the_usual_errors() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'SentenceTransformr'\. What it has: CrossEncoder"):
        getattr(ours, "SentenceTransformr")  # noqa: B009 - a checker of types finds it otherwise
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module(f"{PACKAGE}.no_such_module")


def test_the_log_handler_is_in_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from nearfield.compat.sentence_transformers import LoggingHandler

    LoggingHandler().emit(logging.makeLogRecord({"msg": "a line"}))
    assert capsys.readouterr().out == "a line\n"


@pytest.mark.slow
def test_every_name_of_the_original_is_here_or_has_advice() -> None:
    original = pytest.importorskip("sentence_transformers")
    assert set(original.__all__) - ELSEWHERE <= set(ours.__all__)
