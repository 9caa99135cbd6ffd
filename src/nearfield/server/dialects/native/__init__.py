"""Nearfield's own HTTP API."""
