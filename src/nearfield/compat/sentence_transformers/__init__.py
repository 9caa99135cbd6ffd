"""``sentence_transformers``: its functions over vectors, with the same signatures."""
