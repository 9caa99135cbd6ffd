"""Duplicates among texts: the same, nearly the same, or the same in meaning; which to keep, and which repeat it."""
