"""Stability of vectors between versions: golden vectors and drift."""
