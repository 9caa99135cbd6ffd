"""Start and stop of a server: listeners, model loading, HTTP protocol."""
