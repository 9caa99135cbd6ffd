"""The file that says that a folder's weights are quantised: their precision, and the model that they are from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nearfield.checkpoint import json_file
from nearfield.errors import ModelRefused

#: Its name, and the version of its layout.
FILE, VERSION = "nearfield_quantization.json", 1
#: Precisions in which folders are written.
FOLDER_PRECISIONS = ("int8", "int4")


@dataclass(frozen=True)
class QuantizationRecord:
    """The precision of a folder's weights, and the catalogue's id of the model they are from; empty: it has none."""

    precision: str
    catalogue_id: str


def read_record(folder: Path) -> QuantizationRecord | None:
    """Return what a folder says of its quantised weights; None: they are not quantised.

    Raises:
        ModelRefused: another version of Nearfield wrote it, in another layout.
    """
    facts = json_file.read_optional(folder / FILE)
    if not facts:
        return None
    precision = facts.get("precision")
    if facts.get("version") != VERSION or precision not in FOLDER_PRECISIONS:
        raise ModelRefused(
            f"{folder / FILE} has version {facts.get('version')!r} and precision {precision!r}; this Nearfield reads "
            f"version {VERSION} in {' and '.join(FOLDER_PRECISIONS)}. Update Nearfield, or quantise the model again."
        )
    return QuantizationRecord(str(precision), str(facts.get("catalogue_id") or ""))
