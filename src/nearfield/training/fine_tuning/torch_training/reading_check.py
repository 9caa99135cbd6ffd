"""Whether Nearfield and sentence-transformers read a folder alike: token ids with prompts, and results of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import ModelRefused
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.sampling import texts_of
from nearfield.message_text import quote_name
from nearfield.training.fine_tuning.base_model import BaseModel
from nearfield.training.fine_tuning.figures import open_system
from nearfield.training.fine_tuning.torch_training.live_model import live_system
from nearfield.training.fine_tuning.torch_training.models import (
    TorchModel,
    open_torch_model,
    reading_whole_texts,
)

#: Texts that are compared, and the lowest cosine of two readings of one text.
CHECKED_TEXTS, MIN_COSINE = 32, 0.9999
_ROLES = ("query", "document", "symmetric")


def checked_texts(dataset: Dataset) -> list[str]:
    """Return texts of a set for the comparison, from both sides."""
    documents, queries = texts_of(dataset.rows)
    return [*documents[: CHECKED_TEXTS // 2], *queries[: CHECKED_TEXTS - CHECKED_TEXTS // 2]]


def check_tokens(model: TorchModel, system: Any, base: BaseModel, texts: Sequence[str]) -> None:
    """Check that training reads the token ids that the engine computes vectors of, with the prompts of each role.

    Raises:
        ModelRefused: they differ; the message shows the first difference.
    """
    if base.kind in ("scores", "multivector"):  # pairs, and inputs with inserted tokens: their results are compared
        return
    for role in _ROLES:
        options = {} if role == "symmetric" else {"role": role}
        ours = system.encoder.tokenize(list(texts), **options, **_length(model))
        theirs = model.preprocess(list(texts), prompt=base.prompts[role] or None)
        rows = zip(texts, ours, theirs["input_ids"].tolist(), theirs["attention_mask"].tolist(), strict=True)
        for text, tokens, ids, mask in rows:
            read = [token for token, seen in zip(ids, mask, strict=True) if seen]
            if list(map(int, tokens.ids)) != read:
                raise ModelRefused(
                    f"{base.name}: training would read {quote_name(text)} as a {role} in other tokens than the engine "
                    f"({read[:12]} and {list(map(int, tokens.ids))[:12]}): its prompts or its tokenizer are read "
                    "differently, so that training would not fit the vectors that are served."
                )


def _length(model: TorchModel) -> dict[str, int]:
    return {"max_length": int(model.max_seq_length)}


def check_base(model: TorchModel, system: Any, base: BaseModel, texts: Sequence[str]) -> float:
    """Return the lowest cosine of the engine's and sentence-transformers' results of the base.

    Raises:
        ModelRefused: they differ: what is trained would not be the model that is served.
    """
    with reading_whole_texts(model, base):
        lowest = _lowest(live_system(model, base), system, base, texts)
    if lowest < MIN_COSINE:
        raise ModelRefused(
            f"{base.name} is read differently by sentence-transformers and by Nearfield: cosine {lowest:.5f}. It "
            "cannot be trained here, because the result would not be the model that was trained."
        )
    return lowest


def check_written(model: TorchModel, base: BaseModel, folder: Path, texts: Sequence[str]) -> dict[str, float]:
    """Open a written folder by both, and return the lowest cosines with the trained model in memory.

    Raises:
        ModelRefused: one of them reads another model than the one that was trained.
    """
    live, reopened = live_system(model, base), live_system(open_torch_model(base, folder), base)
    with reading_whole_texts(model, base), open_system(base, folder) as system:
        readers = {"nearfield": system, "sentence-transformers": reopened}
        lowest = {name: _lowest(live, reader, base, texts) for name, reader in readers.items()}
    for reader, cosine in lowest.items():
        if cosine < MIN_COSINE:
            raise ModelRefused(f"{reader} reads the written folder {folder} as another model: cosine {cosine:.5f}.")
    return lowest


def _lowest(first: Any, second: Any, base: BaseModel, texts: Sequence[str]) -> float:
    if base.kind == "scores":
        return min(_scores_alike(first, second, texts), 1.0)
    roles = _ROLES if base.kind == "dense" else _ROLES[:2]
    return min(_cosine(first.encode(texts, role=role), second.encode(texts, role=role)) for role in roles)


def _scores_alike(first: Any, second: Any, texts: Sequence[str]) -> float:
    """Return the cosine of two lists of scores of the same pairs."""
    half = len(texts) // 2
    documents, queries = ({str(at): text for at, text in enumerate(side)} for side in (texts[:half], texts[half:][:8]))
    runs = [system.search(documents, queries, len(documents)) for system in (first, second)]
    columns = [np.array([run[query][key] for query in queries for key in documents]) for run in runs]
    return float(_cosines(columns[0][None], columns[1][None])[0])


def _cosine(first: Any, second: Any) -> float:
    """Return the lowest cosine of dense vectors, sparse vectors, or vectors of tokens."""
    rows = [
        np.asarray(side if not hasattr(side, "data") or isinstance(side, np.ndarray) else side.data)
        for side in (first, second)
    ]
    if hasattr(first, "indices"):
        rows = [np.asarray(side).reshape(len(side), -1) for side in (first, second)]
    if rows[0].shape != rows[1].shape:
        return -1.0
    return float(_cosines(*rows).min())


def _cosines(a: Array, b: Array) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    equal = (a == b).all(1)  # vectors of zeros have no direction
    return np.where(equal, 1.0, (a * b).sum(1) / np.where(lengths > 0, lengths, 1.0))
