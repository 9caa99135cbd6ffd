"""What example scripts of sentence-transformers import beside the models: a log handler and a download."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import httpx


class LoggingHandler(logging.Handler):
    """Writes log records to standard output, a line each."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:  # noqa: BLE001 - logging never fails
            self.handleError(record)


def http_get(url: str, path: str) -> None:
    """Download a file; ``path`` appears once it is complete.

    Raises:
        httpx.HTTPError: it cannot be downloaded.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + "_part")
    try:
        with httpx.stream("GET", url, follow_redirects=True) as response, part.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
