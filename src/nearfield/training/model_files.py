"""The files of a model's folder besides its weights: which are copied to a folder with other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

#: Files of weights in any format, exported graphs, and what belongs to the base alone: not copied.
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".h5", ".msgpack", ".ot", ".onnx", ".onnx_data", ".gguf", ".pt", ".pth")
_LEFT_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "README.md", ".gitattributes")
_LEFT_FOLDERS = ("onnx", "openvino", ".git", ".cache")


def copy_files(source: Path, target: Path) -> None:
    """Copy a model's files without weights and exported graphs."""
    for path in sorted(source.rglob("*")):
        inner = path.relative_to(source)
        if path.is_dir() or set(inner.parts[:-1]) & set(_LEFT_FOLDERS):
            continue
        if path.suffix in _WEIGHT_SUFFIXES or path.name in _LEFT_NAMES:
            continue
        (target / inner).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / inner)


def module_places(folder: Path) -> list[str]:
    """Return the subfolder of each module; a folder without ``modules.json`` has one module, in its root."""
    path = folder / "modules.json"
    if not path.is_file():
        return [""]
    return [module["path"] for module in json.loads(path.read_text(encoding="utf-8"))]
