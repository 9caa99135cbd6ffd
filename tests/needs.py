"""Needs: what a test cannot do without, and what happens where it is not there."""

from __future__ import annotations

import os
from typing import Any

import pytest


def missing(reason: str) -> Any:
    """Skip on a laptop, fail in CI."""
    return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
