"""Search over a collection: plan, candidates (BM25, dense, sparse), fusion, reranking, diversity and highlighting."""
