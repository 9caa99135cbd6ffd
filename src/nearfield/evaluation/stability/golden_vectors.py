"""Golden vectors: store a model's vectors in a file, and check after an upgrade whether it reproduces them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.performance import environment
from nearfield.fileio.atomic import write_atomic
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

#: A vector in JSON: rows of values, or the weights of a sparse vector by id.
Vector = list[list[float]] | dict[str, float]
#: Default texts: several lengths, languages, code, punctuation, and difficult input for tokenizers.
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
#: The minimum cosine of a reproduced vector by precision; bfloat16 has eight bits of significance.
BOUNDS: Mapping[str, float] = {
    "float32": 0.99999,
    "float16": 0.9999,
    "bf16": 0.999,
    "bfloat16": 0.999,
    **dict.fromkeys(("int8", "int8-dynamic", "int4"), 0.999),
}
_FORMAT = 1
_ROLES = ("query", "document")
_REQUIRED_KEYS = ("format", "model", "fingerprint", "precision", "texts", "vectors")


def save(encoder: Encoder, path: Path, texts: Sequence[str] | None = None, *, force: bool = False) -> JsonDict:
    """Encode texts as queries and as documents, and write vectors, fingerprint, precision and versions to a JSON file.

    Raises:
        InputError: there are no texts, or the file exists and ``force`` is False.
    """
    chosen = list(TEXTS if texts is None else texts)
    if not chosen:
        raise InputError("Golden vectors need at least one text.", param="texts")
    if path.exists() and not force:
        raise InputError(f"{path} is there already: check against it, or replace it with --force.", param="path")
    content = {
        "format": _FORMAT,
        "model": encoder.name,
        "revision": encoder.recipe.revision,
        "fingerprint": encoder.fingerprint,
        "precision": encoder.precision,
        "saved": datetime.date.today().isoformat(),
        "machine": environment.describe_environment(),
        "texts": chosen,
        "vectors": {role: _encode(encoder, chosen, role) for role in _ROLES},
    }
    write_atomic(path, json.dumps(content, ensure_ascii=False))
    return content


def load(path: Path) -> JsonDict:
    """Load a file that ``save`` wrote.

    Raises:
        InputError: the file cannot be read, or lacks something.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as golden vectors: {error}") from error
    missing = [key for key in _REQUIRED_KEYS if not isinstance(content, dict) or key not in content]
    if missing or content["format"] != _FORMAT:
        raise InputError(
            f"{path} has no golden vectors of format {_FORMAT}: {', '.join(missing) or content['format']}."
        )
    counts = {len(content["vectors"].get(role, ())) for role in _ROLES}
    if counts != {len(content["texts"])}:
        raise InputError(f"{path}: {len(content['texts'])} texts, and vectors for {sorted(counts)} of them.")
    return dict(content)


def check(encoder: Encoder, golden: JsonMapping, *, min_cosine: float | None = None) -> JsonDict:
    """Encode the texts again and compare.

    Vectors are reproduced if every cosine is at least ``min_cosine``, by default the bound of the coarser of the two
    precisions. Multi-vectors are compared token by token; with another number of tokens, the cosine is 0.

    Returns:
        ``reproduced`` (vectors and fingerprint are reproduced), ``cosine`` (min, mean), ``least``,
        ``fingerprint`` and ``precision`` (saved, now, same), ``versions`` that differ, and ``worst``: up to five texts.
    """
    bound = (
        min_cosine if min_cosine is not None else min(_min_cosine(golden["precision"]), _min_cosine(encoder.precision))
    )
    rows = []
    for role in _ROLES:
        fresh = _encode(encoder, golden["texts"], role)
        for text, old, new in zip(golden["texts"], golden["vectors"][role], fresh, strict=True):
            rows.append({"role": role, "text": text[:80], "cosine": _cosine_of_vectors(old, new)})
    cosines = [row["cosine"] for row in rows]
    print_, precision = (_compare_values(golden[name], getattr(encoder, name)) for name in ("fingerprint", "precision"))
    alike = min(cosines) >= bound
    return {
        "model": encoder.name,
        "reproduced": bool(alike and print_["same"]),
        "vectors_alike": bool(alike),
        "cosine": {"min": min(cosines), "mean": float(np.mean(cosines))},
        "least": bound,
        "fingerprint": print_,
        "precision": precision,
        "versions": _changed_versions(golden.get("machine", {}).get("versions", {})),
        "worst": sorted(rows, key=lambda row: row["cosine"])[:5],
    }


def _min_cosine(precision: str) -> float:
    return BOUNDS.get(precision, BOUNDS["bf16"])


def _compare_values(saved: object, now: object) -> JsonDict:
    return {"saved": saved, "now": now, "same": saved == now}


def _changed_versions(saved: Mapping[str, str]) -> dict[str, list[str]]:
    now = environment.describe_environment(tuple(saved))["versions"]
    return {name: [number, now[name]] for name, number in saved.items() if number != now[name]}


def _encode(encoder: Encoder, texts: Sequence[str], role: str) -> list[Vector]:
    """Return the vectors of each text: rows of values, or the weights of a sparse vector by id."""
    vectors = encoder.encode(list(texts), role=role, show_progress_bar=False)
    if isinstance(vectors, SparseVectors):
        return [{str(at): _round_float(value) for at, value in zip(*row, strict=True)} for row in vectors]
    rows = vectors if isinstance(vectors, MultiVectors) else (row[None] for row in vectors.data)
    return [[[_round_float(value) for value in row] for row in vectors] for vectors in rows]


def _round_float(value: float) -> float:
    """Return a value with nine digits, which identify any float32."""
    return float(f"{value:.9g}")


def _cosine_of_vectors(old: Vector, new: Vector) -> float:
    """Return the cosine of two vectors; for multi-vectors, the lowest."""
    if isinstance(old, dict) or isinstance(new, dict):
        a, b = (vector if isinstance(vector, dict) else {} for vector in (old, new))
        ids = sorted(a.keys() | b.keys())
        return cosine(*(np.array([weights.get(at, 0.0) for at in ids], np.float64) for weights in (a, b)))
    before, now = np.array(old, np.float64), np.array(new, np.float64)
    if before.shape != now.shape:
        return 0.0
    return min((cosine(a, b) for a, b in zip(before, now, strict=True)), default=1.0)


def cosine(a: Array, b: Array) -> float:
    """Return the cosine; of two zero vectors, 1."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(np.array_equal(a, b))
