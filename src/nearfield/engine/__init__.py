"""The engine: a queue of tokenised inputs, a scheduler that forms batches, and lanes that run them."""

from nearfield.engine.engine import Engine, default_engine

__all__ = ["Engine", "default_engine"]
