"""An encoder that the backend loads itself, without one of our families.

It is a graph that the model's folder contains (ONNX, OpenVINO), chosen in place of the weights; or, for an architecture
without a family, the whole folder as transformers reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.ops import Ops, T

SUFFIXES = (".onnx", ".xml")


class Exported(Family):
    """Whatever the architecture: the file computes hidden states from ids and a mask; pooling and the rest are ours."""

    inputs = ("ids", "segments", "places")
    packable = False

    def __init__(self, config: JsonObject, encoder: Path, positions: int) -> None:
        if not encoder.is_dir() and encoder.suffix not in SUFFIXES:
            raise ModelRefused(f"{encoder} is neither an ONNX file nor an OpenVINO model ({', '.join(SUFFIXES)}).")
        if not encoder.exists():
            raise ModelRefused(f"There is no file {encoder}.")
        self.external_encoder = encoder
        self.positions = positions
        self.vocab_size = int(config.get("vocab_size") or 0)
        self.hidden_size = next(
            int(config[key]) for key in ("hidden_size", "dim", "d_model", "n_embd") if key in config
        )

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        return inputs["hidden"]
