"""An adapter that was trained here, served by `nearfield serve` beside its base and chosen in each request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from nearfield import Encoder
from nearfield.training.fine_tuning.train import train
from tests.support.serving import Process
from tests.support.tiny_training import labelled_rows, tiny_base, topic_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
OPTIONS: dict[str, Any] = {"rate": 2e-2, "batch": 16, "epochs": 3, "measurements": 5, "patience": 20, "adapter": 8}


class ServedAdapter(NamedTuple):
    """A base, an adapter of it, and the URL of the server that has both."""

    base: Path
    adapter: Path
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedAdapter]:
    home = tmp_path_factory.mktemp("adapter")
    base = tiny_base(home / "base", prompts={"query": "ba de ", "document": ""})
    result = train(str(base), labelled_rows(), home / "adapter", accept_unproved=True, test_share=0.3, **OPTIONS)
    assert result["written"], result["verdict"]
    settings = {str(base): {"adapters": {"mine": str(home / "adapter")}, "precision": "float32"}}
    server = Process(base, "--model-settings", json.dumps(settings))
    yield ServedAdapter(base, home / "adapter", server.url)
    server.terminate()
    server.wait()


def encode(url: str, texts: list[str], adapter: str | None = None) -> dict[str, Any]:
    body = {"model": "base", "input": texts, **({} if adapter is None else {"adapter": adapter})}
    reply = httpx.post(f"{url}/encode", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    dense: dict[str, Any] = reply.json()["dense"]
    return dense


def test_each_request_chooses_base_or_adapter_and_gets_the_vectors_of_this_process(served: ServedAdapter) -> None:
    import random

    draw = random.Random(3)
    batches = [[topic_text(number % 8, draw) for number in range(size)] for size in (1, 3, 8, 2) * 4]
    chosen = [None, "mine"] * 8
    with ThreadPoolExecutor(4) as pool:  # requests for both share batches
        replies = list(pool.map(lambda one: encode(served.url, *one), zip(batches, chosen, strict=True)))
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False}
    with Encoder(str(served.base), adapters={"mine": served.adapter}, **options) as local:
        for texts, adapter, reply in zip(batches, chosen, replies, strict=True):
            expected = local.encode(texts, adapter=adapter)
            np.testing.assert_allclose(reply["data"], np.asarray(expected), atol=1e-5)
            assert reply["fingerprint"] == expected.fingerprint
        plain, tuned = (np.asarray(local.encode(batches[2], adapter=adapter)) for adapter in (None, "mine"))
    assert np.abs(plain - tuned).max() > 1e-2
    assert replies[0]["fingerprint"] != replies[1]["fingerprint"]


def test_an_adapter_that_is_not_served_is_refused_by_name(served: ServedAdapter) -> None:
    reply = httpx.post(f"{served.url}/encode", json={"model": "base", "input": ["a"], "adapter": "other"})
    assert reply.status_code == 400
    assert "other" in reply.json()["error"]["message"]
