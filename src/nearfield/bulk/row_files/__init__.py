"""Rows of vectors in files: their formats, and the vectors as they are written."""
