"""Writing: retrieval sets in BEIR's layout, so that other tools read them too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.datasets.loaders import MARK
from nearfield.fileio.atomic import atomic_text_file


def write_beir(dataset: Dataset, folder: Path) -> None:
    """Write ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv``; and how it was made, where nobody judged it.

    Raises:
        InputError: it is no retrieval set, or the folder holds something.
    """
    rows = dataset.rows
    if not isinstance(rows, Retrieval):
        raise InputError(f"BEIR's layout is for retrieval, and {dataset.name!r} is a set for {dataset.task}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: write to a new folder.", param="folder")
    folder.mkdir(parents=True, exist_ok=True)
    if dataset.synthetic:
        (folder / MARK).write_text(dataset.synthetic + "\n", encoding="utf-8")
    replace(
        folder / "corpus.jsonl",
        (line({"_id": key, "title": "", "text": rows.documents[key]}) for key in rows.documents),
    )
    replace(folder / "queries.jsonl", (line({"_id": key, "text": rows.queries[key]}) for key in rows.queries))
    replace(folder / "qrels.tsv", judgements(rows.relevant))


def judgements(relevant: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """Yield the lines of ``qrels.tsv``."""
    yield "query-id\tcorpus-id\tscore\n"
    for query, grades in relevant.items():
        for document, grade in grades.items():
            yield f"{query}\t{document}\t{grade}\n"


def line(value: Mapping[str, Any]) -> str:
    """Return an object as a line of JSON."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file whole, or leave the one there as it was."""
    with atomic_text_file(path) as file:
        file.writelines(lines)
