"""TEI's metrics, where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nearfield.inference.loaded_model import LoadedModel
from tests.support.serving import serving

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def watched(fleet: dict[str, LoadedModel]) -> Iterator[str]:
    with serving([fleet["tiny"], fleet["reranker"]], tei_metrics=True) as url:
        yield url


def _samples(url: str) -> dict[tuple[str, str], float]:
    """Read the page: values by name and by the one label's value, empty where there is none."""
    families = text_string_to_metric_families(httpx.get(url + "/metrics").text)
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("te_") and "le" not in sample.labels
    }


def test_requests_are_counted_under_teis_names(watched: str) -> None:
    before = _samples(watched)
    assert before["te_embed_count", ""] == 0
    httpx.post(watched + "/embed", json={"inputs": "a cat"}).raise_for_status()
    httpx.post(watched + "/v1/embeddings", json={"model": "tiny", "input": ["a", "b", "c"]}).raise_for_status()
    httpx.post(watched + "/rerank", json={"query": "a", "texts": ["b", "c"]}).raise_for_status()
    httpx.get(watched + "/info").raise_for_status()
    assert httpx.post(watched + "/embed", json={"inputs": ""}).status_code == 400
    assert httpx.post(watched + "/embed", json={"inputs": "cat " * 100, "truncate": False}).status_code == 422
    assert httpx.post(watched + "/embed", json={"inputs": "a", "model": "no"}).status_code == 404
    now = _samples(watched)
    gained = {key: value - before.get(key, 0) for key, value in now.items()}
    assert (gained["te_request_count", "single"], gained["te_request_count", "batch"]) == (4, 2)
    assert (gained["te_request_success", "single"], gained["te_request_success", "batch"]) == (1, 2)
    assert (gained["te_request_failure", "validation"], gained["te_request_failure", "model_type"]) == (2, 1)
    assert (gained["te_embed_count", ""], gained["te_embed_success", ""]) == (5, 4)
    assert (gained["te_predict_count", ""], gained["te_predict_success", ""]) == (2, 2)
    assert gained["te_request_duration_count", ""] == 3
    for stage in ("", "tokenization_", "queue_", "inference_"):
        assert gained[f"te_embed_{stage}duration_count", ""] == 4
        assert gained[f"te_predict_{stage}duration_count", ""] == 2
    assert gained["te_batch_next_size_sum", ""] == 6
    assert now["te_queue_size", ""] == 0
    assert not any(name.endswith(("_total", "_created")) and "_count" in name for name, _ in now)


def test_they_are_shown_on_request_alone(fleet_url: str) -> None:
    httpx.post(fleet_url + "/embed", json={"inputs": "a cat"}).raise_for_status()
    assert not _samples(fleet_url)
