"""Folders that tests read: the repository, and public data that may lie beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED_FOLDER = ROOT.parent / "shared"
