"""Visual document retrievers: rows of pages and of queries, against transformers, each input computed alone there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Pillow

from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_retrievers

REFERENCE = "transformers, a vector for each token"


def of_files(folder: Path, files: Sequence[Path]) -> list[Array]:
    """Return transformers' rows of page files, which its own processor prepares with Pillow."""
    return tiny_retrievers.rows_of_pages(folder, [Pillow.open(file).convert("RGB") for file in files])


def of_texts(folder: Path, texts: Sequence[str]) -> list[Array]:
    """Return transformers' rows of queries."""
    return tiny_retrievers.rows_of_queries(folder, texts)


CASES = [
    PictureCase(name, family, REFERENCE, write, of_files, None, of_texts)
    for name, family, write in (
        ("pages in tiles", "colmodernvbert", tiny_retrievers.colmodernvbert),
        ("pages", "colqwen2", tiny_retrievers.colqwen2),
        ("pages, over Qwen2.5-VL", "colqwen2", tiny_retrievers.colqwen2_5),
        ("pages", "colpali", tiny_retrievers.colpali),
    )
]
