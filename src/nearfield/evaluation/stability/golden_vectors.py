"""Golden vectors: what a model gave once, kept in a file, and whether it gives that still after an upgrade."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.performance import environment
from nearfield.fileio.atomic import write_atomic
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: Rows of values, or the weights of a sparse vector by their ids, as JSON has them.
Vector = list[list[float]] | dict[str, float]
#: What is encoded where no texts are given: lengths, languages, code, signs, and what trips tokenizers.
TEXTS = (
    "How do I rotate the keys of the server?",
    "A cat sat on the mat.",
    "",
    "Mont Blanc rises 4,806 m above sea level, between France and Italy.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "El zorro marrón salta sobre el perro perezoso; ¿verdad?",
    "为这个句子生成表示以用于检索相关文章。",
    "Быстрая лиса перепрыгивает через ленивую собаку.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "def area(radius: float) -> float:\n    return 3.14159 * radius ** 2",
    "Naïve café: “quotes”, emoji 🙂, e\u0301 and é, tabs\tand  spaces.",
    "GET /v1/embeddings HTTP/1.1 200 application/json 0x7f3a 2026-11-22T10:00:00Z",
    "word " * 700,
)
#: The least cosine that counts as reproduced, by how the model computes: bfloat16 keeps eight bits of a value.
BOUNDS: Mapping[str, float] = {"float32": 0.99999, "float16": 0.9999, "bf16": 0.999, "bfloat16": 0.999}
_FORMAT = 1
_ROLES = ("query", "document")
_NEEDED = ("format", "model", "fingerprint", "precision", "texts", "vectors")


def save(encoder: Encoder, path: Path, texts: Sequence[str] | None = None, *, force: bool = False) -> dict[str, Any]:
    """Encode texts as queries and as documents, and write vectors, fingerprint, precision and versions to a JSON file.

    Raises:
        InputError: no texts, or the file is there and ``force`` is not given.
    """
    chosen = list(TEXTS if texts is None else texts)
    if not chosen:
        raise InputError("Golden vectors need at least one text.", param="texts")
    if path.exists() and not force:
        raise InputError(f"{path} is there already: check against it, or say --force to replace it.", param="path")
    told = {
        "format": _FORMAT,
        "model": encoder.name,
        "revision": encoder.recipe.revision,
        "fingerprint": encoder.fingerprint,
        "precision": encoder.precision,
        "saved": datetime.date.today().isoformat(),
        "machine": environment.describe_environment(),
        "texts": chosen,
        "vectors": {role: _encoded(encoder, chosen, role) for role in _ROLES},
    }
    write_atomic(path, json.dumps(told, ensure_ascii=False))
    return told


def read(path: Path) -> dict[str, Any]:
    """Read what ``save`` wrote.

    Raises:
        InputError: it is no such file; the message says what is missing.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as golden vectors: {error}") from error
    missing = [key for key in _NEEDED if not isinstance(told, dict) or key not in told]
    if missing or told["format"] != _FORMAT:
        raise InputError(f"{path} holds no golden vectors of format {_FORMAT}: {', '.join(missing) or told['format']}.")
    counts = {len(told["vectors"].get(role, ())) for role in _ROLES}
    if counts != {len(told["texts"])}:
        raise InputError(f"{path}: {len(told['texts'])} texts, and vectors for {sorted(counts)} of them.")
    return dict(told)


def check(encoder: Encoder, golden: Mapping[str, Any], *, least: float | None = None) -> dict[str, Any]:
    """Encode the texts anew and compare.

    Vectors count as reproduced where every cosine is at least ``least``: by default what the coarser of the two
    precisions bears. Vectors of tokens are compared one by one, and a text with another number of them has cosine 0.

    Returns:
        ``reproduced`` (vectors alike and the fingerprint the same), ``cosine`` (min, mean), ``least``,
        ``fingerprint`` and ``precision`` (saved, now, same), ``versions`` that differ, and ``worst``: up to five texts.
    """
    floor = least if least is not None else min(_bound(golden["precision"]), _bound(encoder.precision))
    rows = []
    for role in _ROLES:
        fresh = _encoded(encoder, golden["texts"], role)
        for text, old, new in zip(golden["texts"], golden["vectors"][role], fresh, strict=True):
            rows.append({"role": role, "text": text[:80], "cosine": _alike(old, new)})
    cosines = [row["cosine"] for row in rows]
    print_, precision = (_both(golden[name], getattr(encoder, name)) for name in ("fingerprint", "precision"))
    alike = min(cosines) >= floor
    return {
        "model": encoder.name,
        "reproduced": bool(alike and print_["same"]),
        "vectors_alike": bool(alike),
        "cosine": {"min": min(cosines), "mean": float(np.mean(cosines))},
        "least": floor,
        "fingerprint": print_,
        "precision": precision,
        "versions": _changed(golden.get("machine", {}).get("versions", {})),
        "worst": sorted(rows, key=lambda row: row["cosine"])[:5],
    }


def _bound(precision: str) -> float:
    return BOUNDS.get(precision, BOUNDS["bf16"])


def _both(saved: Any, now: Any) -> dict[str, Any]:
    return {"saved": saved, "now": now, "same": saved == now}


def _changed(saved: Mapping[str, str]) -> dict[str, list[str]]:
    now = environment.describe_environment(tuple(saved))["versions"]
    return {name: [number, now[name]] for name, number in saved.items() if number != now[name]}


def _encoded(encoder: Encoder, texts: Sequence[str], role: str) -> list[Vector]:
    """Return each text's vectors: rows of values, or the weight of each id of a sparse one."""
    found = encoder.encode(list(texts), role=role, show_progress_bar=False)
    if isinstance(found, SparseVectors):
        return [{str(at): _nine(value) for at, value in zip(*row, strict=True)} for row in found]
    rows = found if isinstance(found, MultiVectors) else (row[None] for row in found.data)
    return [[[_nine(value) for value in row] for row in each] for each in rows]


def _nine(value: Any) -> float:
    """Nine digits tell any float32 from its neighbours."""
    return float(f"{value:.9g}")


def _alike(old: Vector, new: Vector) -> float:
    """Return the cosine of two vectors, and the least one of two texts' vectors of tokens."""
    if isinstance(old, dict) or isinstance(new, dict):
        a, b = (each if isinstance(each, dict) else {} for each in (old, new))
        ids = sorted(a.keys() | b.keys())
        return cosine(*(np.array([each.get(at, 0.0) for at in ids], np.float64) for each in (a, b)))
    before, now = np.array(old, np.float64), np.array(new, np.float64)
    if before.shape != now.shape:
        return 0.0
    return min((cosine(a, b) for a, b in zip(before, now, strict=True)), default=1.0)


def cosine(a: Array, b: Array) -> float:
    """Return the cosine; two vectors of zeros are alike."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
