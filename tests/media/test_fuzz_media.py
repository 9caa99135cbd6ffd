"""A short run of ``tools.fuzz_media``."""

from __future__ import annotations

import pytest

from tools.fuzz_media import fuzz_pictures


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures() -> None:
    findings = fuzz_pictures(8, seed=7)
    assert findings.errors == []
    assert findings.outcomes["read"] > 20 and findings.outcomes["refused 400"] > 20
    assert findings.slowest < 10
