"""Parity: tiny random checkpoints beside the reference that each is compared with. One file, one family or head.

Each module lists ``CASES``. ``tests/test_parity_cases.py`` runs them all, and ``python -m tools.parity`` writes what
they give to docs/reference/parity.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Case:
    """One family with one head, and its reference.

    ``write`` makes the folder; ``expect`` gives the reference's result for each input, as arrays: dense [dim], sparse
    [vocabulary], multivector [tokens, dim], scores [classes]. Inputs are texts, or pairs of texts for scores.
    ``padding`` is the side on which the reference pads its batch. ``options`` go to our ``Encoder`` or ``Reranker``,
    ``wanted`` to each call of it.
    """

    name: str
    family: str
    reference: str
    write: Callable[[Path], Path]
    expect: Callable[..., Sequence[Array]]
    output: str = "dense"
    paddings: tuple[str, ...] = ("right",)
    options: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)


def cases() -> list[Case]:
    """Return all cases of all modules here."""
    found: list[Case] = []
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg or module.name == "measure":
            continue
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return found
