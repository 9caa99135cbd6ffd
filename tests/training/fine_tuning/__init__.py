"""Fine-tuning: the table of losses, batches, parts of the data, the verdict, and whole runs of tiny models."""
