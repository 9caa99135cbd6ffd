"""Model files in a local folder."""

from __future__ import annotations

from pathlib import Path

from nearfield.hub.gguf import is_gguf, stated_model, unpack_gguf
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
    """Return whether a path is that of a GGUF file, or of a folder with a model or an adapter of one."""
    path = existing_path(folder)
    if path is not None and path.is_file():
        return is_gguf(path)
    paths = (existing_path(f"{folder}/{name}") for name in ROOT_FILES)
    return any(path is not None and path.is_file() for path in paths)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter, whose base model lies elsewhere."""
    return (folder / "adapter_config.json").is_file()


def find_in_folder(search: SourceSearch) -> LocatedModel | None:
    """Return the folder or file that the model's name is the path of, or None with the reason recorded."""
    path = existing_path(search.model)
    if path is not None and has_model(search.model):
        return _locate(path.resolve())
    if path is not None:
        search.record("folder", f"{path} {_why_no_model(path)}")
    elif search.model.startswith((".", "/", "~")):
        search.record("folder", f"there is no {search.model}")
    else:
        search.record("folder", "not a folder here")
    return None


def locate_gguf(file: Path, name: str | None = None, source: str = "folder") -> LocatedModel:
    """Return the model of a GGUF file; its name is that of the file when left out.

    Raises:
        ModelRefused: the file is damaged, or holds what cannot be read.
    """
    return LocatedModel(unpack_gguf(file), name or file.stem, None, source, file, stated_model(file, name))


def _locate(path: Path) -> LocatedModel:
    return locate_gguf(path) if path.is_file() else LocatedModel(path, path.name, None, "folder")


def _why_no_model(path: Path) -> str:
    if not path.is_dir():
        return "is a file, and neither a folder nor in GGUF"
    file = next(iter(sorted(path.glob("*.gguf"))), None)
    return "holds no config.json" + (f"; pass the path of its GGUF file, such as {file}" if file else "")
