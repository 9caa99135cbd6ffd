"""Parity of pictures: tiny random checkpoints that read pictures, from files on disk to vectors.

``CASES`` lists each family in each layout. ``tests/inference/test_picture_parity.py`` runs them, and
``python -m tools.parity`` writes what they give to docs/reference/parity.md.
"""

from __future__ import annotations

from tests.parity.pictures import fused_sequences, hugging_face, pages, sentence_modules
from tests.parity.pictures.case import PictureCase

CASES: list[PictureCase] = [*hugging_face.CASES, *sentence_modules.CASES, *fused_sequences.CASES, *pages.CASES]
