"""Nearfield's API of management: models in memory, and keys."""
