"""Names of vector spaces: what is in them, and that those of models of version 0.1 stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.inference.processors import space_of_recipe
from tests.support import tiny_models, tiny_pictures


def changed(folder: Path, *place: str, **fields: object) -> str:
    """Change fields of config.json, below the keys of a place; return the name of the space."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    own = config
    for key in place:
        own = own[key]
    own.update(fields)
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return space_of_recipe(read_model_folder(folder))


@pytest.mark.parametrize(
    ("write", "field", "usual", "others"),
    [
        (tiny_models.tiny_bert, "hidden_act", "gelu", ("relu", "gelu_new", "silu")),
        (tiny_models.tiny_distilbert, "activation", "gelu", ("relu",)),
        (tiny_models.tiny_modernbert, "hidden_activation", "gelu", ("gelu_pytorch_tanh",)),
        (tiny_models.tiny_albert, "hidden_act", "gelu_new", ("gelu",)),
    ],
)
def test_another_activation_is_another_space(
    write: Callable[..., Path], field: str, usual: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    folder = write(tmp_path / "model")
    names = [changed(folder, **{field: activation}) for activation in (usual, *others)]
    assert len(set(names)) == len(names)
    assert changed(folder, **{field: None}) == names[0]


def test_two_names_of_an_activation_are_one_space(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "model")
    assert changed(folder, hidden_act="swish") == changed(folder, hidden_act="silu")
    assert changed(folder, hidden_act="gelu_new") == changed(folder, hidden_act="gelu_pytorch_tanh")


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
def test_each_tower_counts(tower: str, tmp_path: Path) -> None:
    folder = tiny_pictures.write_clip(tmp_path / "clip")
    before = space_of_recipe(read_model_folder(folder))
    assert changed(folder, tower, hidden_act="quick_gelu") == before
    assert changed(folder, tower, hidden_act="gelu") != before
