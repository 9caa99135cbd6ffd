"""Batches of a server, through OpenAI's client."""

from __future__ import annotations

import time
from typing import Any

import openai

ENDED = ("completed", "failed", "expired", "cancelled")


def wait_for_batch(client: openai.OpenAI, name: str) -> Any:
    """Return a batch once it has ended, at most a minute from now."""
    until = time.monotonic() + 60
    while (batch := client.batches.retrieve(name)).status not in ENDED:
        assert time.monotonic() < until, batch
        time.sleep(0.02)
    return batch
