"""The parts of fine-tuning that need torch: sentence-transformers' trainers, weights, and vectors of a live model."""
