"""`Topics`: the result of `find_topics`, its folder, and new texts that join it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nearfield.argument_checks import require_path
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.output_path import require_writable_folder
from nearfield.jobs.job_vectors import JobModel, JobVectors, vectors_of
from nearfield.jobs.topics.clusters import Membership, join
from nearfield.message_text import count_of, escape_controls
from nearfield.text_inputs import many_texts

TOPICS_FILE = "topics.safetensors"
_FORMAT = 1
#: The number of no topic.
APART = -1


@dataclass(frozen=True)
class Topic:
    """A topic: its number, how many texts it has, its words, and the numbers of the texts nearest to its centre.

    ``label`` is the name that a chat endpoint gave it, if one was asked (``name_topics``).
    """

    number: int
    size: int
    words: tuple[str, ...]
    examples: tuple[int, ...]
    label: str = ""

    @property
    def name(self) -> str:
        """Its label, or else its words, or its number if it has none."""
        return self.label or ", ".join(self.words) or f"topic {self.number}"

    def to_dict(self) -> JsonDict:
        """Return the topic in a form for JSON."""
        label = {"label": self.label} if self.label else {}
        facts: JsonDict = {"number": self.number, "size": self.size, "words": self.words, "examples": self.examples}
        return facts | label


@dataclass(frozen=True)
class Topics:
    """Topics, the largest first.

    Attributes:
        topics: see ``Topic``.
        assignments: the number of the topic of each text, int64 [n]; -1 for texts apart, which are unlike all topics.
        centres: float32 [topics, dim], of unit length.
        limits: the cosine to the centre below which a text is apart, float32 [topics].
        merges: the hierarchy: pairs of nodes with their distance, from 0 (equal) on, the nearest first. Nodes from
            ``len(topics)`` on are earlier merges, in order.
        stability: how alike topics of other seeds and other parts of the texts are; 1: equal, 0: as by chance.
        silhouette: by how much texts are nearer to their topic than to the next one, from -1 to 1.
        tried: the silhouette of each number of topics that was tried.
        model: the name of the model, and ``fingerprint`` the name of its space; empty for vectors of a caller.
    """

    topics: tuple[Topic, ...]
    assignments: Array
    centres: Array
    limits: Array
    merges: Sequence[tuple[int, int, float]]
    stability: float
    silhouette: float
    tried: Mapping[int, float]
    model: str = ""
    fingerprint: str = ""

    def assign(self, texts: Sequence[str], *, vectors: ArrayLike | None = None, model: JobModel | None = None) -> Array:
        """Return the topic of each of further texts, int64 [n], or -1; texts that have a topic are not moved.

        Args:
            texts: further texts.
            vectors: their vectors, in place of those of the model.
            model: the model, if it is loaded already or has another name here.

        Raises:
            SpaceMismatch: the model has another space than that of the topics.
            InputError: the vectors have another size, or the topics were found by vectors and none are given.
        """
        listed = many_texts(texts, "texts")
        if vectors is None and not self.model and model is None:
            raise InputError("These topics are of vectors without a model: give the vectors too.", param="vectors")
        joining = vectors_of(listed, vectors, model or self.model, "clustering")
        joining.require_same_space(JobVectors(self.centres, self.model, self.fingerprint))
        rows = joining.rows
        return place_apart(join(rows, self.centres), self.limits)

    def save(self, folder: str | Path) -> None:
        """Write all but the assignments to a folder, from which ``load_topics`` reads them."""
        path = require_path("folder", folder)
        require_writable_folder(path, "folder")
        facts = {"format": _FORMAT, "fingerprint": self.fingerprint, **self.to_dict()}
        tensors = {"centres": np.ascontiguousarray(self.centres), "limits": np.ascontiguousarray(self.limits)}
        write_atomic(path / TOPICS_FILE, save(tensors, {"topics": json.dumps(facts)}))

    def to_dict(self) -> JsonDict:
        """Return all but vectors and assignments in a form for JSON."""
        return {
            "model": self.model,
            "texts": len(self.assignments),
            "apart": int((self.assignments == APART).sum()),
            "stability": self.stability,
            "silhouette": self.silhouette,
            "tried": {str(count): value for count, value in self.tried.items()},
            "topics": [topic.to_dict() for topic in self.topics],
            "merges": [list(merge) for merge in self.merges],
        }

    def to_text(self, texts: Sequence[str] = ()) -> str:
        """Return lines for a terminal; ``texts`` are those of the call, to show an example of each topic."""
        counts = f"{count_of(len(self.topics), 'topic')} of {count_of(len(self.assignments), 'text')}"
        apart = int((self.assignments == APART).sum())
        lines = [
            f"{counts}, {apart:,} apart; stability {self.stability:.2f} of 1, silhouette {self.silhouette:.2f}",
            *(f"{topic.number:4} {topic.size:8,}  {topic.name}{_example(topic, texts)}" for topic in self.topics),
        ]
        return "\n".join(map(escape_controls, lines))


def load_topics(folder: str | Path) -> Topics:
    """Return the topics of a folder, without assignments.

    Raises:
        InputError: there are none, or the file is damaged or of a newer version.
    """
    path = require_path("folder", folder) / TOPICS_FILE
    if not path.is_file():
        raise InputError(f"There are no topics in {folder}: {TOPICS_FILE} is needed.", param="folder")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["topics"])
            tensors = {name: file.get_tensor(name) for name in ("centres", "limits")}
        return _from_facts(facts, tensors)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{path} is damaged or of a newer version: {error}. Find topics again.") from error


def _from_facts(facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Topics:
    if facts["format"] > _FORMAT:
        raise ValueError(f"format {facts['format']}")
    topics = tuple(
        Topic(item["number"], item["size"], tuple(item["words"]), tuple(item["examples"]), item.get("label", ""))
        for item in facts["topics"]
    )
    return Topics(
        topics,
        np.zeros(0, np.int64),
        tensors["centres"],
        tensors["limits"],
        [(first, second, distance) for first, second, distance in facts["merges"]],
        facts["stability"],
        facts["silhouette"],
        {int(count): value for count, value in facts["tried"].items()},
        facts["model"],
        facts["fingerprint"],
    )


def place_apart(membership: Membership, limits: Array) -> Array:
    """Return the cluster of each item, int64 [n]; -1 where its cosine is below the limit of that cluster."""
    return np.where(membership.similarity >= limits[membership.cluster], membership.cluster, APART).astype(np.int64)


def _example(topic: Topic, texts: Sequence[str]) -> str:
    return f'  "{texts[topic.examples[0]][:60]}"' if topic.examples and len(texts) else ""
