"""Cosines and sines of rotary positions, computed on the host in float64 and cached as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.fork_safety import ProcessLock


class Rotary:
    """Angles of rotary position embeddings over ``size`` features (Su et al. 2021, arXiv:2104.09864).

    ``factor`` divides positions (linear scaling).
    """

    def __init__(self, size: int, theta: float, factor: float = 1.0) -> None:
        if size % 2 or size < 2:
            raise ModelRefused(f"Rotary positions turn pairs of features: {size} cannot be split into pairs.")
        self.size = size
        self.frequencies = theta ** (-np.arange(0, size, 2, dtype=np.float64) / size) / factor
        self._lock = ProcessLock()
        self._table = self._build_table(512)

    def angles(self, places: Array) -> tuple[Array, Array]:
        """Return cosines and sines, float32 [B, L, size], the frequencies twice in a row."""
        table = self._table
        if (length := int(places.max(initial=0)) + 1) > len(table[0]):
            with self._lock:
                # Grown by doubling: a short text must not pay for the table of the longest.
                table = self._table = self._build_table(1 << (length - 1).bit_length())
        return table[0][places], table[1][places]

    def _build_table(self, length: int) -> tuple[Array, Array]:
        angles = np.arange(length)[:, None] * self.frequencies
        twice = np.concatenate([angles, angles], -1)
        return np.cos(twice).astype(np.float32), np.sin(twice).astype(np.float32)

    @classmethod
    def from_config(cls, config: JsonObject, size: int, theta: float = 10000.0, kind: str | None = None) -> Rotary:
        """Read ``rope_parameters`` (transformers 5), or ``rope_theta`` and ``rope_scaling`` (before it).

        ``kind`` picks the parameters of one layer type where a model has several (``full_attention``, ...).

        Raises:
            ModelRefused: a scaling that is not known here.
        """
        parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if kind is not None and isinstance(parameters.get(kind), Mapping):
            parameters = parameters[kind]
        theta = float(parameters.get("rope_theta") or config.get("rope_theta") or theta)
        scaling = parameters.get("rope_type") or parameters.get("type") or "default"
        if scaling == "linear":
            return cls(size, theta, float(parameters["factor"]))
        if scaling == "ntk":
            if parameters.get("mixed_b") is not None:
                raise ModelRefused(
                    f"config.json: mixed_b {parameters['mixed_b']!r} of rope scaling 'ntk' is not known here."
                )
            # Alibaba's: the base grows, and with it the positions are spread by the factor's own root.
            factor = float(parameters["factor"])
            return cls(size, theta * factor, factor ** (2 / size))
        if scaling == "llama3":
            return _llama3(cls(size, theta), parameters)
        if scaling not in ("default", "mrope"):  # sections of M-RoPE are for the family
            raise ModelRefused(
                f"config.json: rope scaling {scaling!r} is not known here (default, linear, ntk, llama3)."
            )
        return cls(size, theta)


def _llama3(rotary: Rotary, parameters: Mapping[str, Any]) -> Rotary:
    """Slow down the low frequencies, keep the high ones, and blend between (Llama 3.1's own rule)."""
    factor, low, high = (float(parameters[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = float(parameters["original_max_position_embeddings"])
    turns = trained * rotary.frequencies / (2 * np.pi)
    blend = np.clip((turns - low) / (high - low), 0, 1)
    rotary.frequencies = rotary.frequencies * (blend + (1 - blend) / factor)
    rotary._table = rotary._build_table(512)
    return rotary
