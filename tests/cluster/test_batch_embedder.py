"""``nearfield.cluster.Embed`` on batches as Ray Data passes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pyarrow as arrow
import pytest

from nearfield import Encoder
from nearfield.cluster import Embed
from nearfield.errors import InputError

TEXTS = ["the cat", "a dog sat", ""]
TITLES = ["red", "blue", "mat"]


@pytest.fixture(scope="module")
def model(tiny: Encoder) -> str:
    return str(tiny.recipe.folder)


@pytest.fixture(scope="module")
def embed(model: str) -> Embed:
    columns = {"text": "text_vector", "title": "title_vector"}
    return Embed(model, columns, role="query", loading={"precision": "float32"})


def _batch(kind: str) -> Any:
    columns = {"text": TEXTS, "title": TITLES, "n": [1, 2, 3]}
    if kind == "numpy":
        return {name: np.array(values, object) for name, values in columns.items()}
    return pandas.DataFrame(columns, index=[7, 8, 9]) if kind == "pandas" else arrow.table(columns)


def _rows(batch: Any, name: str) -> np.ndarray:
    values = batch[name].to_pylist() if isinstance(batch, arrow.Table) else list(batch[name])
    return np.array(values, np.float32)


@pytest.mark.parametrize("kind", ["numpy", "pandas", "pyarrow"])
def test_batches_of_each_kind_get_columns_of_vectors(kind: str, embed: Embed, tiny: Encoder) -> None:
    batch = _batch(kind)
    done = embed(batch)
    assert type(done) is type(batch)
    assert list(done.column_names if kind == "pyarrow" else done) == [
        "text",
        "title",
        "n",
        "text_vector",
        "title_vector",
    ]
    for name, texts in (("text_vector", TEXTS), ("title_vector", TITLES)):
        np.testing.assert_allclose(_rows(done, name), np.asarray(tiny.encode(texts, role="query")), atol=2e-6)
    assert "text_vector" not in (batch.column_names if kind == "pyarrow" else batch)


def test_an_empty_batch_has_an_empty_column(embed: Embed) -> None:
    assert embed(_batch("pyarrow").slice(0, 0))["text_vector"].type == arrow.list_(arrow.float32(), 32)
    assert embed({name: values[:0] for name, values in _batch("numpy").items()})["text_vector"].shape == (0, 32)


def test_int8_vectors_stay_int8(model: str) -> None:
    embed = Embed(model, precision="int8")
    assert embed(_batch("numpy"))["embedding"].dtype == np.int8


@pytest.mark.parametrize(
    ("columns", "output", "change", "message"),
    [
        ("txt", "embedding", {}, "no column 'txt'. Did you mean 'text'"),
        ("text", "n", {}, "a column 'n' already"),
        ("text", "embedding", {"text": ["a", None, "b"]}, "row 1 of a batch, holds nothing"),
        ("n", "embedding", {}, "row 0 of a batch, holds int"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(
    columns: str, output: str, change: dict[str, Any], message: str, model: str
) -> None:
    with pytest.raises(InputError, match=message):
        Embed(model, columns, output)({**_batch("pandas").to_dict("list"), **change})


def test_wrong_options_are_refused_before_the_first_batch(model: str) -> None:
    with pytest.raises(InputError, match="dense vectors alone"):
        Embed(model, outputs=["dense", "sparse"])
    with pytest.raises(InputError, match="role"):
        Embed(model, role="reader")
