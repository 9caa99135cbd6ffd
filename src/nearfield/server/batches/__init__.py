"""Batch jobs of the OpenAI batch API."""
