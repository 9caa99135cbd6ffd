"""Errors name the fields of the API that a client speaks, and no keywords of Python."""

from __future__ import annotations

import json

import pytest

from nearfield.errors import UnsupportedDimensions
from nearfield.server.dialects import REGISTRY, Reply

_FORCED = UnsupportedDimensions("tiny was not trained for truncate_dim.txt. It was trained for 8.", can_force=True)
_OUTSIDE = UnsupportedDimensions("must be an integer from 1 to 32 for truncate_dim.txt, not 99.")
#: The field with the number of dimensions, of APIs in which it is not ``dimensions``.
_FIELDS = {
    "bedrock": "embeddingConfig.outputEmbeddingLength (Nova: embeddingDimension)",
    "gemini": "outputDimensionality",
    "vertex": "dimension",
    "cohere": "output_dimension",
    "voyage": "output_dimension",
    "qdrant": "mrl",
}
#: Their requests have no dimensions: models and collections have, by the names of settings.
_WITHOUT_FIELD = {"manage", "collections", "jobs"}


@pytest.mark.parametrize("name", sorted(set(REGISTRY.names()) - _WITHOUT_FIELD))
def test_dimensions_have_the_name_of_the_field(name: str) -> None:
    field = _FIELDS.get(name, "dimensions")
    force = ", or force it (force_dimensions: true)" if name == "native" else ""
    for error, message in (
        # What is no keyword stays, such as a model of that name.
        (_FORCED, f"tiny was not trained for truncate_dim.txt. It was trained for 8. Leave {field} out{force}."),
        (_OUTSIDE, f"{field} must be an integer from 1 to 32 for truncate_dim.txt, not 99."),
    ):
        body = REGISTRY.load(name)().refuse(error)
        text = json.dumps(body.content if isinstance(body, Reply) else body)
        assert message in text
        assert "truncate_dim" not in text.replace("truncate_dim.txt", "")
