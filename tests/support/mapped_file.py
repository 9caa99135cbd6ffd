"""How much of a file is in this process's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

SMAPS = Path("/proc/self/smaps")
needs_smaps = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux reports what is in memory")


def resident_bytes(path: Path) -> int:
    """Return the bytes of a mapped file that are in this process's memory."""
    maps = SMAPS.read_text(encoding="utf-8").split(str(path))[1:]
    return sum(int(text.split("Rss:")[1].split()[0]) * 1024 for text in maps)
