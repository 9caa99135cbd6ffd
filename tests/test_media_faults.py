"""The benchmark of faults of pictures: what it counts as a failure."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from benchmarks.media_faults import failures

GOOD: dict[str, Any] = {
    "folder": {"seconds": 9, "lost": 0, "rows": 187, "named": 13, "bad": 13},
    "large": {"megabytes": 0.5, "statuses": {200: 8, 429: 3}, "different vectors": 1},
    "after": {"megabytes": 0.5, "statuses": {200: 1}, "different vectors": 1},
    "memory": {"before": 171, "after": 400, "idle": 180},
}


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("folder", "lost", 1, "files were lost"),
        ("folder", "named", 12, "bad files were not named"),
        ("large", "statuses", {200: 7, 500: 1}, "a reply with 500"),
        ("after", "statuses", {503: 1}, "a reply with 503"),
        ("large", "different vectors", 2, "replies differ"),
        ("memory", "idle", 900, "memory did not return"),
    ],
)
def test_each_failure_is_reported(part: str, name: str, value: Any, message: str) -> None:
    assert failures(GOOD) == []
    report = copy.deepcopy(GOOD)
    report[part][name] = value
    assert failures(report) == [message]
