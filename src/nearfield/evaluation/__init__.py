"""Evaluation: quality, speed and cost of a model, on the user's own data and machine."""
