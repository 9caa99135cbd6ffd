"""API keys, rate limits and host checks."""
