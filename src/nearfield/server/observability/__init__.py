"""Metrics, traces and live statistics of a server."""
