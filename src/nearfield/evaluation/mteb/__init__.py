"""Evaluation with the mteb package, and published scores to compare with."""
