"""Write a map or bridge with a card that says what it is, how it was measured, and how it is used."""

from __future__ import annotations

from pathlib import Path

from nearfield.errors import InputError
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.output_path import probe_writing
from nearfield.vectors.vector_map import FACTS_FILE, TENSORS_FILE, VectorMap

CARD_FILE = "README.md"
_OWN_FILES = {CARD_FILE, FACTS_FILE, TENSORS_FILE}
_USES = {
    "query": (
        "# A query map\n\nIt moves the queries of {model}; the vectors of documents do not change.\n\n{figures}\n\n"
        "Used by `Encoder(model, query_map=folder)`, `nearfield index NAME --query-map folder`, and the server's "
        "`model_settings`.\n"
    ),
    "bridge": (
        "# A bridge\n\nIt moves queries of {to} into an index of {from}, while that is embedded again.\n\n{figures}\n\n"
        "Used by `nearfield index NAME --model {to} --bridge folder`.\n"
    ),
}


def require_map_folder(folder: Path) -> None:
    """Raise InputError unless a map can be written to a folder: a new one, an empty one, or one of an earlier map.

    A new folder is not there afterwards: what is refused later leaves nothing.
    """
    if folder.is_dir() and not {path.name for path in folder.iterdir()} <= _OWN_FILES:
        raise InputError(f"{folder} has other files: name a new folder.", param="output")
    try:
        probe_writing(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.", param="output") from error


def write_map(vector_map: VectorMap, folder: Path, figures: str) -> None:
    """Write a map with its card; ``figures`` are the lines that a terminal shows."""
    vector_map.save(folder)
    lines = "\n".join(f"- {line}" for line in figures.splitlines())
    footer = f"\nFingerprint: `{vector_map.fingerprint}`. Digest: `{vector_map.digest}`.\n"
    card = _USES[vector_map.kind].format(figures=lines, **{"model": "", **vector_map.facts})
    write_atomic(folder / CARD_FILE, card + footer)
