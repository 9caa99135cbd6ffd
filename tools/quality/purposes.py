"""Purposes as means of tasks: English from MTEB's benchmarks, other languages from their retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tools.quality.scores import RawScores, Task, benchmark_tasks, language_tasks

#: A task of a language counts if at least that many models have a figure for it.
FEWEST_MODELS = 30
_LANGUAGES = "ar bg bn cs da de el es fa fi fr hi id it ja ko nl no pl pt ro ru sr sv sw ta te th tr vi yo zh"
_ENGLISH, _CODE = "MTEB(eng, v2)", "MTEB(Code, v1)"
_TYPES = {"retrieval": "Retrieval", "sts": "STS", "classification": "Classification", "clustering": "Clustering"}

#: Purposes whose figure is a mean of a whole benchmark, as it was published: (benchmark, metric).
PUBLISHED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "retrieval:multilingual": (
            "MTEB(Multilingual, v2) without FloresBitextMining / Retrieval",
            "mean of tasks",
        ),
        "general:multilingual": ("MTEB(Multilingual, v2) without FloresBitextMining", "mean of tasks"),
        "long-documents": ("LongEmbed", "mean of tasks"),
        "images": ("COCO text to image R@1", ""),
        "images:labels": ("ImageNet zero-shot accuracy", ""),
        "images:multilingual": ("MIEB(Multilingual) / Any2AnyMultilingualRetrieval", "mean of tasks"),
        "pages": ("ViDoRe(v1)", "mean of tasks"),
        "audio": ("MAEB(beta)", "mean of task types"),
        "rerank:en": ("reranking top 100 of Qwen3-Embedding-0.6B: MTEB-R", "as published"),
        "rerank:zh": ("reranking top 100 of Qwen3-Embedding-0.6B: CMTEB-R", "as published"),
        "rerank:multilingual": ("reranking top 100 of Qwen3-Embedding-0.6B: MMTEB-R", "as published"),
        "rerank:code": ("reranking top 100 of Qwen3-Embedding-0.6B: MTEB-Code", "as published"),
    }
)
#: Figures that say something about others, and are no purpose themselves.
RELATED = (
    ("MTEB(Multilingual, v2) without FloresBitextMining / Retrieval", "mean of tasks"),
    ("MTEB(Multilingual, v2) without FloresBitextMining", "mean of tasks"),
    ("BEIR", "mean of tasks"),
    ("BEIR", "as published"),
    ("MTEB(eng, v1)", "mean of tasks"),
    ("NanoBEIR", "as published"),
)


@dataclass(frozen=True)
class Purpose:
    """A purpose whose figure is the mean over tasks; a model has the language, or is not estimated in it."""

    name: str
    language: str
    tasks: tuple[Task, ...]


def purposes(scores: RawScores) -> list[Purpose]:
    """Return the purposes that are means of tasks."""
    english = [
        Purpose(f"{name}:en", "en", tuple(task for kind, task in benchmark_tasks(_ENGLISH) if kind == wanted))
        for name, wanted in _TYPES.items()
    ]
    return [
        *english,
        Purpose("general:en", "en", tuple(task for _, task in benchmark_tasks(_ENGLISH))),
        Purpose("code", "code", tuple(task for _, task in benchmark_tasks(_CODE))),
        *(
            Purpose(f"retrieval:{language}", language, tuple(language_tasks(scores, language, FEWEST_MODELS)))
            for language in _LANGUAGES.split()
        ),
    ]
