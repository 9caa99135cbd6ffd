"""Models of a running server: names, loading, leases and memory budget."""
