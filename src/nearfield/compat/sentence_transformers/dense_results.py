"""The form of ``encode``'s results: arrays, tensors or lists; truncated, scaled and quantised (`ResultForm`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.quantization import quantize_embeddings
from nearfield.errors import InputError, nearest
from nearfield.tensors import array_to_tensor, torch_is_installed
from nearfield.vectors.dense import normalize

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
OUTPUT_VALUES = ("sentence_embedding", "token_embeddings")


@dataclass(frozen=True)
class ResultForm:
    """What a call of ``encode`` says about its result."""

    output_value: str | None = "sentence_embedding"
    precision: str | None = "float32"
    numpy: bool = True
    tensor: bool = False
    normalize: bool = False
    truncate_dim: int | None = None
    device: str | None = None
    single: bool = False

    def check(self) -> None:
        """Raise InputError for an unknown precision or output, or a wrong number of dimensions."""
        if self.precision is not None and self.precision not in PRECISIONS:
            raise InputError(
                f"Precision {self.precision!r} is not supported. {nearest(self.precision, PRECISIONS)}",
                param="precision",
            )
        if self.output_value is not None and self.output_value not in OUTPUT_VALUES:
            hint = nearest(self.output_value, OUTPUT_VALUES)
            raise InputError(f"output_value={self.output_value!r} is not supported. {hint}", param="output_value")
        check_truncation(self.truncate_dim)

    def truncates(self, dimensions: int) -> bool:
        """Return whether vectors of so many dimensions get shorter."""
        return self.truncate_dim is not None and self.truncate_dim < dimensions

    def shape_vectors(self, vectors: Any) -> Any:
        """Return vectors [n, dim] in this form.

        Unlike `Encoder`, sentence-transformers does not scale a truncated vector to unit length again, unless
        ``normalize_embeddings`` is True.
        """
        data = vectors if isinstance(vectors, np.ndarray) else np.asarray(vectors)
        if self.truncates(data.shape[1]):
            data = np.ascontiguousarray(np.asarray(data)[:, : self.truncate_dim])
            data = normalize(data) if self.normalize else data
        if self.precision not in (None, "float32") and len(data):
            data = np.asarray(quantize_embeddings(np.asarray(data), cast(Any, self.precision)))
        return self._container(data)

    def _container(self, data: Array) -> Any:
        if self.tensor:
            result: Any = array_to_tensor(data, self.device)
        elif self.numpy:
            result = data
        else:
            result = list(array_to_tensor(data, self.device))
        return result[0] if self.single else result


def check_truncation(truncate_dim: object) -> None:
    """Raise InputError for a number of dimensions that is neither None nor a whole number of 1 or more."""
    if truncate_dim is not None:
        require_count("truncate_dim", truncate_dim)


def tensor_or_array(array: Array, device: str | None = None) -> Any:
    """Return a torch tensor, on a device, if torch is installed, else the array."""
    return array_to_tensor(array, device) if torch_is_installed() else array
