"""Vectors and what is computed with them: dense, sparse and multi-vectors, quantisation, fingerprints, similarity."""
