"""Several machines: shards encoded on a Ray cluster, and a router in front of several servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfield.cluster.batch_embedder import Embed

__all__ = ["Embed"]


def __getattr__(name: str) -> Any:
    """Import `Embed` at its first use: the router needs no model."""
    if name not in __all__:
        raise AttributeError(f"module 'nearfield.cluster' has no attribute {name!r}")
    from nearfield.cluster.batch_embedder import Embed

    return Embed
