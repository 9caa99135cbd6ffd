"""Inter-process communication: one engine used by several processes."""
