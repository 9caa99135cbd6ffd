"""Surveys of a whole collection: its map and its duplicates, each computed once in a separate process."""
