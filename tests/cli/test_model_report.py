"""What ``models show`` prints: words on a terminal, and the same JSON as version 0.1 for programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.cli.terminal.model_report import to_json_object, to_text
from nearfield.recipe import ClassScores, EncodeTask, Multivector, Normalize, Pooling, Recipe, RerankPrompt, RoleFormat
from tests.support import tiny_pictures


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.id)
def test_no_value_of_python_is_printed(entry: CatalogEntry) -> None:
    text = to_text(entry.id, entry, None)
    assert not re.search(r"\bNone\b|\bTrue\b|\bFalse\b|\{\}|\[|\(\)", text.replace(entry.notes or "", ""))
    assert f"nearfield models pull {entry.id}" in text


def test_each_fact_has_its_origin(tmp_path: Path) -> None:
    recipe = Recipe(
        name="mine",
        folder=tmp_path,
        config={},
        modules=(Pooling(("cls", "mean"), include_prompt=False), Normalize()),
        dimensions=1024,
        max_length=8192,
        prompts={"query": "search: ", "document": ""},
        default_prompt_name="query",
        matryoshka=(512, 256),
        origins={"prompts": "catalogue", "pooling": "assumed", "max_length": "positions"},
        warnings=("this is odd",),
    )
    lines = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":  ") for line in to_text("mine", None, recipe).splitlines())
    }
    assert lines["Dimensions"] == "1,024; may be shortened to 512, 256"
    assert lines["Maximum length"] == "8,192 tokens (from the model's number of positions)"
    assert lines["Pooling"] == "cls and mean, without the prompt's tokens (assumed)"
    assert lines["Normalization"] == "vectors have unit length (from the model's files)"
    assert lines["Prompts"] == "1 (from the catalogue)"
    assert lines["query"] == "'search: ' (default)"
    assert lines["Warnings"] == "this is odd"
    assert lines["Files"] == str(tmp_path)


@pytest.mark.slow
def test_a_model_of_pictures_and_texts(tmp_path: Path) -> None:
    recipe = read_model_folder(tiny_pictures.write_clip(tmp_path / "clip"))
    text = to_text("clip", catalog.find("clip"), recipe)
    assert re.search(
        r"Input: +texts and pictures and frames of videos, scaled to 32 x 32 pixels \(from the model's files\)", text
    )
    assert re.search(r"Normalization: +vectors have unit length, unless a call says otherwise", text)
    assert re.search(r"Maximum length: +257 patches", to_text("x", catalog.find("dinov2-base"), None))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (ClassScores(("a",)), "Classes"),
        (EncodeTask("query"), "Task"),
        (RerankPrompt("yes"), "Answer"),
        (RoleFormat(), "Marking"),
        (Normalize(), "Normalize"),
    ],
)
def test_json_has_the_names_of_version_0_1(value: object, kind: str, tmp_path: Path) -> None:
    recipe = Recipe("mine", tmp_path, {}, (value,), 8, 8)  # type: ignore[arg-type]
    modules = cast("list[dict[str, object]]", to_json_object(recipe, without="config")["modules"])
    (module,) = modules
    assert module["kind"] == kind


def test_json_has_the_field_names_of_version_0_1(tmp_path: Path) -> None:
    head = Multivector((), 8, skip_first_tokens=1, divide_by_query_length=True)
    recipe = Recipe("mine", tmp_path, {}, (), 8, 8, (head,), tmp_path / "a.onnx", unsupported_precisions=("float16",))
    shown = to_json_object(recipe, without="config")
    assert (shown["body"], shown["forbid"]) == (tmp_path / "a.onnx", ["float16"])
    (multivector,) = cast("list[dict[str, object]]", shown["heads"])
    assert (multivector["drop"], multivector["average"]) == (1, True)
    assert not {"exported_graph", "unsupported_precisions"} & shown.keys()
