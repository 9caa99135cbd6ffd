"""Indexing: from changed documents to chunks and vectors in a store."""
