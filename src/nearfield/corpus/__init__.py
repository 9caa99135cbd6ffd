"""Corpus: from files to a collection that can be searched: sources, extractors, chunkers, and the pipeline over them."""
