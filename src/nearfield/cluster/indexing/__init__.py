"""Collections on a cluster: documents are extracted, split and encoded by workers, and written by one process."""
