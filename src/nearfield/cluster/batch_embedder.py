"""`Embed`: a class for ``map_batches`` of Ray Data, which adds columns of vectors to batches of any of its formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.cluster.ray_runtime import import_ray
from nearfield.encoder import Encoder
from nearfield.errors import InputError, MissingExtra, nearest
from nearfield.inference.encode_options import EncodeKeywords, Unpack
from nearfield.inference.loaded_model import LoadKeywords


class Embed:
    """Adds dense vectors of columns of texts to batches.

    Ray Data creates one for each worker: ``dataset.map_batches(Embed, fn_constructor_kwargs={...}, num_cpus=2)``. The
    model is opened once, with as many threads as the worker has cores.

    Args:
        model: the model, as for ``Encoder``. Where it is a folder, each machine must have it at this path.
        columns: the column of the texts, or a mapping from such columns to the columns of their vectors.
        output: the column of the vectors, if ``columns`` is one column.
        loading: how to load the model, as keywords of ``Encoder``.
        options: how to encode, as keywords of ``Encoder.encode``, such as ``role``.

    Raises:
        InputError: an option is wrong.
        ModelNotFound, SourceUnavailable: the machine lacks the model, and cannot download it.
    """

    def __init__(
        self,
        model: str,
        columns: str | Mapping[str, str] = "text",
        output: str = "embedding",
        *,
        loading: LoadKeywords | None = None,
        **options: Unpack[EncodeKeywords],
    ) -> None:
        self.columns = {columns: output} if isinstance(columns, str) else dict(columns)
        if options.get("outputs") is not None:
            raise InputError("Embed adds dense vectors alone: leave outputs out.", param="outputs")
        self._options = options
        self._encoder = Encoder(model, **cast(LoadKeywords, {**_usual_loading(), **(loading or {})}))
        self._encoder.require("dense")
        self._encoder.encode([], **options)  # wrong options are an error before the first batch

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the columns of vectors: float32 [n, dimensions], or as ``precision`` says.

        Args:
            batch: a dictionary of NumPy arrays, a data frame of pandas, or an Arrow table. The same is returned.

        Raises:
            InputError: a column is missing or exists already, or a value is no text.
        """
        names = [str(name) for name in (batch.column_names if hasattr(batch, "column_names") else batch)]
        for column, output in self.columns.items():
            _check_names(names, column, output)
            batch = _with_column(batch, output, self._vectors(column, batch[column]))
        return batch

    def _vectors(self, column: str, values: Any) -> Array:
        texts = values.to_pylist() if hasattr(values, "to_pylist") else list(values)
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                content = "nothing" if text is None else f"{type(text).__name__}, not text"
                raise InputError(
                    f"Column {column!r}, row {number} of a batch, holds {content}: filter such rows first."
                )
        return np.asarray(self._encoder.encode(texts, show_progress_bar=False, **self._options))


def _usual_loading() -> LoadKeywords:
    """Return as many threads as Ray gives this worker cores, if this process is a worker."""
    try:
        ray = import_ray()
    except MissingExtra:
        return {}
    if not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return {}
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    return {"threads": int(cores)} if cores >= 1 else {}


def _check_names(names: list[str], column: str, output: str) -> None:
    if column not in names:
        raise InputError(f"A batch has no column {column!r}. {nearest(column, names)}", param="columns")
    if output in names:
        raise InputError(f"A batch has a column {output!r} already: choose another output.", param="output")


def _with_column(batch: Any, name: str, vectors: Array) -> Any:
    """Return a batch of the same kind with a column more."""
    if isinstance(batch, Mapping):
        return {**batch, name: vectors}
    if hasattr(batch, "append_column"):
        import pyarrow as arrow

        flat = arrow.array(np.ascontiguousarray(vectors).reshape(-1))
        return batch.append_column(name, arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    return batch.assign(**{name: list(vectors)})
