"""Model files in a local folder."""

from __future__ import annotations

from pathlib import Path

from nearfield.hub.sources import LocatedModel, SourceSearch


def has_model(folder: str) -> bool:
    """Return whether a path is that of a folder with a model."""
    try:
        path = Path(folder).expanduser()
        return (path / "config.json").is_file() or (path / "modules.json").is_file()
    except (OSError, RuntimeError, ValueError):  # a name that no path can have, such as a very long one
        return False


def find_in_folder(search: SourceSearch) -> LocatedModel | None:
    """Return the folder that the model's name is the path of, or None with the reason recorded."""
    path = Path(search.model).expanduser()
    if has_model(search.model):
        return LocatedModel(path.resolve(), path.resolve().name, None, "folder")
    if path.is_dir():
        search.record("folder", f"{path} holds no config.json")
    elif path.is_file():
        search.record("folder", f"{path} is a file, and a model is a folder")
    elif search.model.startswith((".", "/", "~")):
        search.record("folder", f"there is no {path}")
    else:
        search.record("folder", "not a folder here")
    return None
