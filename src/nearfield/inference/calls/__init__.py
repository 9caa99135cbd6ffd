"""What calls of `Encoder` and `Reranker` take besides their inputs: keywords, and limits of time and size."""
