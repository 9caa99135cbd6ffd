"""Answers with citations, written by a chat model from search results."""
