"""The HTTP API of collections."""
