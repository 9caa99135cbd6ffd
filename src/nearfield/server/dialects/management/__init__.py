"""Nearfield's API of management: models in memory, keys, live figures and reports."""
