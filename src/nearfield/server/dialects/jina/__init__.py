"""Jina's API, and the forms of the rerankers of Infinity and vLLM."""
