"""Search over a collection: plan, candidates, fusion, reranking and highlighting."""
