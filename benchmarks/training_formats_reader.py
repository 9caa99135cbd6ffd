"""The reader of `benchmarks.training_formats`: runs in another Python, with sentence-transformers and PEFT alone.

``python training_formats_reader.py JOBS.json RESULT.json``; it imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

_LIBRARIES = ("sentence-transformers", "transformers", "peft", "torch")


def _read(job: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each way to load a folder, and what the model gives."""
    import sentence_transformers as library

    texts, folder = job["texts"], job["folder"]
    if job["kind"] == "scores":
        import torch

        pairs = list(zip(texts, [*texts[1:], texts[0]]))  # noqa: B905 - the other Python may be an old one
        model: Any = library.CrossEncoder(folder, device="cpu")
        yield "CrossEncoder", np.asarray(model.predict(pairs, activation_fn=torch.nn.Identity()))[None]
    elif job["kind"] == "sparse":
        rows = library.SparseEncoder(folder, device="cpu").encode(texts, convert_to_sparse_tensor=False)
        yield "SparseEncoder", rows.cpu().numpy()
    elif job["base"] is None:
        yield "SentenceTransformer", np.asarray(library.SentenceTransformer(folder, device="cpu").encode(texts))
    else:
        yield from _read_adapter(library, job)


def _read_adapter(library: Any, job: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    from peft import PeftModel

    model: Any = library.SentenceTransformer(job["base"], device="cpu")
    model.load_adapter(job["folder"])
    yield "load_adapter", np.asarray(model.encode(job["texts"]))
    model = library.SentenceTransformer(job["base"], device="cpu")
    inner = PeftModel.from_pretrained(_transformer(model), job["folder"])
    _set_transformer(model, inner)
    yield "PeftModel", np.asarray(model.encode(job["texts"]))
    _set_transformer(model, inner.merge_and_unload())
    with tempfile.TemporaryDirectory() as place:
        model.save(place)
        merged = library.SentenceTransformer(place, device="cpu")
        yield "merge_and_unload, saved, SentenceTransformer", np.asarray(merged.encode(job["texts"]))


def _transformer(model: Any) -> Any:
    return model[0].auto_model if hasattr(model[0], "auto_model") else model[0].model


def _set_transformer(model: Any, inner: Any) -> None:
    setattr(model[0], "auto_model" if hasattr(model[0], "auto_model") else "model", inner)


def _row(name: str, how: str, result: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    if result.shape != expected.shape:
        return {"name": name, "how": how, "cosine": -1.0, "difference": float("inf")}
    a, b = result.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(((a * b).sum(1) / np.maximum(lengths, 1e-30)).min())
    return {"name": name, "how": how, "cosine": cosine, "difference": float(np.abs(a - b).max())}


def main() -> None:
    """Read the jobs, and write versions and rows."""
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = [_row(job["name"], how, result, np.load(job["expected"])) for job in jobs for how, result in _read(job)]
    result = {"versions": {name: version(name) for name in _LIBRARIES}, "forms": rows}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
