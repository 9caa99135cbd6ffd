"""Archives as sources: their files are documents, within limits of number, size and depth."""
