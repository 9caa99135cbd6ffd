"""Published quality of the catalogue's models by purpose and language, with errors and sources, as data.

``python -m tools.quality`` writes the tables from the raw results of MTEB. A purpose is ``retrieval``, ``sts``,
``classification``, ``clustering`` or ``general`` with a language after a colon, such as ``retrieval:de``; or ``code``,
``long-documents``, ``images``, ``images:labels``, ``images:multilingual``, ``pages``, ``audio``, ``rerank:en`` and its
like. Figures of different purposes cannot be compared.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


#: Search by words alone, as a model of the table: the figures to beat. Languages without spaces are left out.
BM25 = "(baseline) BM25"


@dataclass(frozen=True)
class QualityFigure:
    """A model's figure for a purpose: the mean of its tasks, in points of 100.

    ``published`` of ``tasks`` tasks have a published figure; the others are estimated from the model's other figures,
    with ``error`` as the standard error of the mean. ``source`` says where the figures were published.
    """

    purpose: str
    value: float
    error: float
    published: int
    tasks: int
    source: str

    @property
    def is_estimated(self) -> bool:
        """Whether a task of the purpose has no published figure."""
        return self.published < self.tasks


@lru_cache(maxsize=1024)
def quality_figures(model: str) -> Mapping[str, QualityFigure]:
    """Return the figures of a model by purpose. ``model`` is the full id; a model without any has an empty mapping.

    What is not in the mapping is not known: nothing is published from which it could be estimated.
    """
    content = _read("figures.toml")
    return MappingProxyType(
        {
            purpose: QualityFigure(purpose, value, error, published, tasks, content["sources"][source])
            for purpose, (value, error, published, tasks, source) in content.get(model, {}).items()
        }
    )


@lru_cache(maxsize=1)
def quality_purposes() -> tuple[str, ...]:
    """Return the purposes for which a model has a figure, in the order of the table."""
    models = (value for value in _read("figures.toml").values() if isinstance(value, dict))
    return tuple(dict.fromkeys(purpose for figures in models for purpose in figures))


def measured_languages(model: str) -> Mapping[str, str]:
    """Return the grade of each language that was measured with a model: good, weak or poor, beside its own English.

    Languages are named as in the Belebele benchmark: ISO 639-1 where there is such a code, else ISO 639-3.
    """
    grades = _read("languages.toml").get(model, {})
    return MappingProxyType({code: grade for grade, codes in grades.items() for code in codes.split()})


def win_share(purpose: str, points: float) -> float | None:
    """Return how often a model that is ``points`` ahead was also ahead on a task that its mean leaves out.

    Counted over all pairs of models with published figures. None for less than half a point, and for purposes with too
    few tasks or models.
    """
    shares = _read("win_shares.toml")
    group = next((name for name in shares if purpose.startswith(name)), None)
    reached = [share for start, share, _ in shares.get(group, ()) if points >= start] if group else []
    return reached[-1] if reached else None


@lru_cache(maxsize=3)
def _read(name: str) -> Mapping[str, Any]:
    return tomllib.loads((files(__name__) / name).read_text(encoding="utf-8"))
