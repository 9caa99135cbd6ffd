"""Storing reports: what a command measured, in a file of the user's folder of reports."""

from __future__ import annotations

import json
import math
import os
import secrets
from datetime import datetime, timezone
from pathlib import Path

from nearfield import __version__
from nearfield.evaluation.json_types import JsonMapping
from nearfield.evaluation.reports.report_file import FORMAT, FORMAT_FIELD
from nearfield.fileio.atomic import write_atomic

#: The value of ``NEARFIELD_REPORTS`` with which no reports are stored.
OFF = "off"
#: Fields with a value for each item: they are as large as the data, and no part of a report.
_PER_ITEM = frozenset({"per_item", "first"})


def reports_folder() -> Path | None:
    """Return the folder of reports: ``NEARFIELD_REPORTS``, or ``~/.local/share/nearfield/reports``; None if ``off``."""
    configured = os.environ.get("NEARFIELD_REPORTS")
    if configured == OFF:
        return None
    return Path(configured or Path.home() / ".local" / "share" / "nearfield" / "reports").expanduser().absolute()


def store_report(kind: str, report: JsonMapping) -> Path | None:
    """Store a report and return its file; None if the user wants none.

    Args:
        kind: the name of the command, see ``report_kinds.KINDS``.
        report: what the command prints as JSON. Scores of single items are left out.

    Raises:
        OSError: the file cannot be written.
    """
    folder = reports_folder()
    if folder is None:
        return None
    now = datetime.now(timezone.utc)
    content = {FORMAT_FIELD: FORMAT, "kind": kind, "created": now.isoformat(timespec="seconds")}
    text = json.dumps({**content, "version": __version__, "report": _without_items(report)}, ensure_ascii=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{now:%Y%m%d-%H%M%S}-{kind}-{secrets.token_hex(4)}.json"
    write_atomic(path, text.encode("utf-8", "replace"))
    return path


def _without_items(value: object) -> object:
    """Return a value without scores of items; a number that JSON does not have is null."""
    if isinstance(value, dict):
        return {name: _without_items(field) for name, field in value.items() if name not in _PER_ITEM}
    if isinstance(value, (list, tuple)):
        return [_without_items(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
