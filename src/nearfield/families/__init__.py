"""Families: one file, one architecture, written once against ``Ops`` and unaware of what executes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from nearfield.checkpoint.weights import Weights
from nearfield.errors import ModelRefused, nearest
from nearfield.ops import Ops
from nearfield.shelf import Shelf

Array = np.ndarray[Any, np.dtype[Any]]

#: ``model_type`` of config.json to the family that runs it.
SHELF = Shelf(
    "family",
    {
        "bert": "nearfield.families.bert:Bert",
        "roberta": "nearfield.families.bert:Bert",
        "xlm-roberta": "nearfield.families.bert:Bert",
        "camembert": "nearfield.families.bert:Bert",
        "electra": "nearfield.families.bert:Bert",
        "distilbert": "nearfield.families.bert:Bert",
        "mpnet": "nearfield.families.bert:Bert",
    },
    group="nearfield.families",
)


class Family(ABC):
    """An architecture at one configuration.

    A newcomer writes ``__init__`` (read and check config.json), ``encode``, and where needed ``host``.
    """

    #: Graph inputs the family reads, by their names in ``ops.INPUTS``.
    inputs: tuple[str, ...] = ("ids", "segments", "positions")
    #: Prefixes under which the checkpoint may keep the encoder.
    roots: ClassVar[tuple[str, ...]] = ("",)
    #: Weights that may stay unread: heads of other tasks, and buffers that are computed.
    unread: ClassVar[tuple[str, ...]] = (r"(^|\.)position_ids$",)

    hidden_size: int
    vocab_size: int
    #: Longest input that the architecture can take, special tokens included.
    positions: int

    @abstractmethod
    def __init__(self, config: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def encode(self, ops: Ops[Any], weights: Weights, inputs: Mapping[str, Any]) -> Any:
        """Return the last hidden states [B, L, H]."""

    def host(self, places: Array) -> dict[str, Array]:
        """Return what the graph needs beside ids and segments; ``places`` [B, L] count from 0 within each input."""
        return {"positions": places}


def resolve(config: Mapping[str, Any]) -> Family:
    """Return the family for a config.json.

    Raises:
        ModelRefused: no family runs this architecture, or the folder wants code of its own (``auto_map``), whose
            weights a built-in family of the same name would load wrongly.
    """
    kind = str(config.get("model_type") or "")
    if config.get("auto_map"):
        raise ModelRefused(
            f"config.json asks for the model's own code (auto_map: {dict(config['auto_map'])}). Nearfield runs "
            f"no remote code, and loading these weights as a plain {kind!r} would give wrong vectors."
        )
    if kind not in SHELF.names():
        raise ModelRefused(f"No family runs model_type {kind!r}. {nearest(kind, SHELF.names())}")
    family: Family = SHELF.load(kind)(config)
    return family
