"""What vector databases call to have inputs embedded: Qdrant's inference hook, and Weaviate's multi2vec-clip."""
