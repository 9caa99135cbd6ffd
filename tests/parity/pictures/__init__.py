"""Parity of pictures, sounds and videos: tiny random checkpoints that read them, from files on disk to vectors.

``CASES`` lists each family in each layout. ``tests/inference/test_picture_parity.py`` runs them, and
``python -m tools.parity`` writes what they give to docs/reference/parity.md.
"""

from __future__ import annotations

from tests.parity.pictures import (
    fused_sequences,
    hugging_face,
    other_libraries,
    pages,
    sentence_modules,
    sounds,
    videos,
)
from tests.parity.pictures.case import PictureCase

CASES: list[PictureCase] = [
    *hugging_face.CASES,
    *sentence_modules.CASES,
    *other_libraries.CASES,
    *fused_sequences.CASES,
    *pages.CASES,
    *sounds.CASES,
    *videos.CASES,
]
