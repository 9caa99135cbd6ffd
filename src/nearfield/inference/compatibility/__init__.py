"""What users of sentence-transformers type, for `Encoder` and `Reranker`: keywords, names, plain errors."""
