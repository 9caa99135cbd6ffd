"""Write retrieval data sets in BEIR's layout, which other tools read too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.datasets.loaders import SYNTHETIC_NOTE
from nearfield.fileio.atomic import atomic_text_file
from nearfield.fileio.whole_folder import require_new_folder, whole_folder


def write_beir(dataset: Dataset, folder: Path) -> None:
    """Write ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv``; for a synthetic data set also its note.

    Raises:
        InputError: the data set is not for retrieval, or the folder is not empty.
    """
    rows = dataset.rows
    if not isinstance(rows, Retrieval):
        raise InputError(f"BEIR's layout is for retrieval, and {dataset.name!r} is a set for {dataset.task}.")
    require_new_folder(folder, "folder")
    with whole_folder(folder) as partial:
        if dataset.synthetic:
            (partial / SYNTHETIC_NOTE).write_text(dataset.synthetic + "\n", encoding="utf-8")
        write_corpus(partial, rows.documents)
        write_queries(partial, rows.queries)
        write_judgments(partial, rows.relevant)


def write_corpus(folder: Path, documents: Mapping[str, str]) -> None:
    """Write ``corpus.jsonl`` in one step."""
    records = ({"_id": key, "title": "", "text": text} for key, text in documents.items())
    _replace_file(folder / "corpus.jsonl", map(_json_line, records))


def write_queries(folder: Path, queries: Mapping[str, str]) -> None:
    """Write ``queries.jsonl`` in one step."""
    records = ({"_id": key, "text": text} for key, text in queries.items())
    _replace_file(folder / "queries.jsonl", map(_json_line, records))


def write_judgments(folder: Path, relevant: Mapping[str, Mapping[str, int]]) -> None:
    """Write ``qrels.tsv`` in one step."""
    _replace_file(folder / "qrels.tsv", _qrels_lines(relevant))


def _qrels_lines(relevant: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    yield "query-id\tcorpus-id\tscore\n"
    for query, grades in relevant.items():
        for document, grade in grades.items():
            yield f"{query}\t{document}\t{grade}\n"


def _json_line(record: Mapping[str, str]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _replace_file(path: Path, lines: Iterable[str]) -> None:
    with atomic_text_file(path) as file:
        file.writelines(lines)
