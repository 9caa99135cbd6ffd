"""The HTTP server: one engine, many dialects."""
