"""Comparison of models and settings: runs, stored results, rankings, charts and reports."""
