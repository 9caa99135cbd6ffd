"""A server of models of every kind: each is listed, and refuses what it cannot do, by name."""

from __future__ import annotations

import httpx
import pytest

from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker

pytestmark = pytest.mark.network


def test_all_kinds_are_listed(fleet: dict[str, LoadedModel], fleet_url: str) -> None:
    listed = {model["id"]: model for model in httpx.get(fleet_url + "/v1/models").json()["data"]}
    assert set(listed) == {model.name for model in fleet.values()}
    assert listed[fleet["m3"].name]["outputs"] == ["dense", "sparse", "multivector"]
    reranker = fleet["reranker"]
    assert isinstance(reranker, Reranker) and listed[reranker.name]["dimensions"] == 0
    assert listed[reranker.name]["fingerprint"] == reranker.fingerprint


def test_vectors_of_a_reranker_are_refused(fleet: dict[str, LoadedModel], fleet_url: str) -> None:
    body = {"model": fleet["reranker"].name, "input": "cat"}
    response = httpx.post(fleet_url + "/v1/embeddings", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"
    assert "gives no vectors" in response.json()["detail"]
