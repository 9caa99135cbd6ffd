"""Corpus: from files to a collection that can be searched."""
