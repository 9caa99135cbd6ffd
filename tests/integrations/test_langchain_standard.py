"""LangChain's own tests of embeddings, where its package ``langchain-tests`` is installed.

It brings plugins of pytest that concern all other tests, so it is not among the packages of the tests.
"""

from __future__ import annotations

from typing import Any

import pytest

from nearfield.integrations.langchain import NearfieldEmbeddings

reason = "pip install langchain-tests in an environment of its own"
unit_tests = pytest.importorskip("langchain_tests.unit_tests", reason=reason)
integration_tests = pytest.importorskip("langchain_tests.integration_tests", reason=reason)

pytestmark = pytest.mark.slow


class TestNearfieldEmbeddingsUnit(unit_tests.EmbeddingsUnitTests):  # type: ignore[name-defined, misc]
    """Construction."""

    @property
    def embeddings_class(self) -> type[NearfieldEmbeddings]:
        return NearfieldEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "all-MiniLM-L6-v2"}


class TestNearfieldEmbeddingsIntegration(integration_tests.EmbeddingsIntegrationTests):  # type: ignore[name-defined, misc]
    """Results."""

    @property
    def embeddings_class(self) -> type[NearfieldEmbeddings]:
        return NearfieldEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "all-MiniLM-L6-v2"}
