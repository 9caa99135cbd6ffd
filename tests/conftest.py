"""What many tests share: a tiny model, loaded once, and a server that serves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nearfield.encoder import Encoder
from nearfield.testing import tiny_encoder
from tests.serving import serving

PROMPTS = {"query": "search: ", "passage": "hello "}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A tiny model with prompts, in float32."""
    with tiny_encoder(tmp_path_factory.mktemp("tiny") / "tiny", prompts=PROMPTS, precision="float32") as encoder:
        yield encoder


@pytest.fixture(scope="session")
def url(tiny: Encoder) -> Iterator[str]:
    """A server of the tiny model."""
    with serving([tiny]) as base:
        yield base
