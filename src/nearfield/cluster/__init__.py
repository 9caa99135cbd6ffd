"""Several machines: data sets and collections encoded on a Ray cluster, and a router in front of several servers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfield.cluster.batch_embedder import Embed
    from nearfield.cluster.indexing.ray_workers import RayWorkers

__all__ = ["Embed", "RayWorkers"]

_MODULES = {"Embed": "batch_embedder", "RayWorkers": "indexing.ray_workers"}


def __getattr__(name: str) -> Any:
    """Import a class at its first use: the router needs no model."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nearfield.cluster' has no attribute {name!r}")
    return getattr(import_module(f"nearfield.cluster.{_MODULES[name]}"), name)
