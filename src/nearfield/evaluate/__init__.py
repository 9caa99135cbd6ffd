"""Evaluate: how good, how fast and how dear a model is, on one's own data and machine."""
