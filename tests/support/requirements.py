"""Needs: what a test cannot do without, and what happens where it is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

_ROOM = 2**30


def missing(reason: str) -> Any:
    """Skip on a laptop, fail in CI."""
    return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def quick_folder() -> str | None:
    """Return a folder in memory, for what often waits for the disk; None, the usual one, where there is no room."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None
