"""Options with which the models of the settings are loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from nearfield.engine.engine import Engine
from nearfield.server.lifecycle import model_loading
from nearfield.server.lifecycle.model_loading import ModelLoader
from nearfield.settings import Settings


@pytest.mark.parametrize(
    ("accepted", "loaded", "expected"),
    [
        (("jina-v3",), "jinaai/jina-embeddings-v3", True),
        (("jinaai/jina-embeddings-v3",), "jina-v3", True),
        (("JINA-v3",), "jina-embeddings-v3:latest", True),
        (("1",), "jina-v3", True),
        (("minilm", "jina-v3 "), "jina-v3", True),
        ((), "jina-v3", False),
        (("minilm",), "jina-v3", False),
        (("jina",), "jina-v3", False),
    ],
)
def test_a_licence_is_accepted_by_any_name_of_its_model(
    accepted: tuple[str, ...], loaded: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> Any:
        calls.append({"name": name, **options})
        return SimpleNamespace(name=name, load_towers=lambda: None, unlogged_warnings=())

    monkeypatch.setattr(model_loading, "load", load)
    ModelLoader(Settings(accept_license=accepted), cast(Engine, None))(loaded)
    assert [(call["name"], call["accept_license"]) for call in calls] == [(loaded, expected)]
