"""What an estimate of speed offers, whether it was measured on this machine or computed for another."""

from __future__ import annotations

from typing import Protocol

from nearfield.evaluation.planning.speed.model_shapes import ModelShape


class SpeedModel(Protocol):
    """Estimates for one machine: speed in bulk, and memory of a process with a model."""

    @property
    def precision(self) -> str:
        """The number format that the estimates are for, such as float32 or bfloat16."""
        ...

    def tokens_per_second(self, shape: ModelShape, tokens: float) -> float:
        """Return the bulk speed on texts of ``tokens`` tokens."""
        ...

    def model_bytes(self, parameters: int) -> int:
        """Return the bytes that a process with a model of so many parameters takes, without texts in progress."""
        ...
