"""Evaluation data sets: loading, sampling, writing, synthesis and relevance judgments."""
