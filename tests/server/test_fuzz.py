"""The API under fuzzing from its own OpenAPI document: no answer is a server error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nearfield.encoder import Encoder
from tests.support.serving import listening
from tools.raw_fuzz import RawFuzz

pytestmark = pytest.mark.network

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "input",
    "dimensions",
    "encoding_format",
    "input_type",
    "prompt_name",
    "instruction",
    "truncate",
    "embedding_dtype",
)
CALM = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
#: For each of some sixty operations: ``python -m tools.fuzz`` runs for longer.
SHORT = settings(CALM, max_examples=8)


def test_bodies_generated_from_the_document(url: str) -> None:
    schema = schemathesis.openapi.from_url(url + "/openapi.json")
    seen: set[int] = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @SHORT
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            reply = case.call(base_url=url)
            seen.add(reply.status_code)
            assert reply.status_code < 500, reply.text[:500]
            case.operation.validate_response(reply)  # whatever it is, the document says its shape

        check()
    assert {200, 400} <= seen


@pytest.mark.slow
def test_any_value_in_any_field(url: str) -> None:
    with httpx.Client(base_url=url) as client:

        @CALM
        @given(field=st.sampled_from(FIELDS), value=JSON_VALUES)
        def check(field: str, value: Any) -> None:
            body = json.dumps({"model": "tiny", "input": "cat", field: value})
            reply = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
            assert reply.status_code < 500, (body, reply.text[:500])
            if reply.status_code != 200:
                assert reply.json()["error"]["message"]

        check()


def test_any_bytes(url: str) -> None:
    with httpx.Client(base_url=url) as client:

        @CALM
        @given(body=st.binary(max_size=200))
        def check(body: bytes) -> None:
            reply = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
            assert 400 <= reply.status_code < 500

        check()


def test_raw_bytes_at_the_socket(tiny: Encoder) -> None:
    """``python -m tools.fuzz --raw`` runs for longer, and looks at times and memory too."""
    with listening([tiny], served_collections="all") as state:
        document = httpx.get(f"http://127.0.0.1:{state.port}/openapi.json").json()
        findings = asyncio.run(RawFuzz("127.0.0.1", state.port, document, seed=1).run(2))
        assert httpx.get(f"http://127.0.0.1:{state.port}/ready").status_code == 200
    assert not findings.wrong, findings.wrong[:5]
    assert {200, 400} <= set(findings.replies)
