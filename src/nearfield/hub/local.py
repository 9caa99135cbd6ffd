"""Model files in a local folder."""

from __future__ import annotations

from pathlib import Path

from nearfield.hub.sources import LocatedModel, SourceSearch


def existing_path(name: str) -> Path | None:
    """Return the path that a name is, if something is there; None also where no path can have that name."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, the home of an unknown user, a zero byte
        return None


#: Files of which each model's folder has one: models whose modules lie in subfolders, those of open_clip and adapters
#: have no config.json.
ROOT_FILES = ("config.json", "modules.json", "open_clip_config.json", "adapter_config.json")


def has_model(folder: str) -> bool:
    """Return whether a path is that of a folder with a model, or with an adapter of one."""
    paths = (existing_path(f"{folder}/{name}") for name in ROOT_FILES)
    return any(path is not None and path.is_file() for path in paths)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter, whose base model lies elsewhere."""
    return (folder / "adapter_config.json").is_file()


def find_in_folder(search: SourceSearch) -> LocatedModel | None:
    """Return the folder that the model's name is the path of, or None with the reason recorded."""
    path = existing_path(search.model)
    if path is not None and has_model(search.model):
        return LocatedModel(path.resolve(), path.resolve().name, None, "folder")
    if path is not None:
        reason = "holds no config.json" if path.is_dir() else "is a file, and a model is a folder"
        search.record("folder", f"{path} {reason}")
    elif search.model.startswith((".", "/", "~")):
        search.record("folder", f"there is no {search.model}")
    else:
        search.record("folder", "not a folder here")
    return None
