"""Bulk embedding: data sets of any size to files and shards of vectors."""
