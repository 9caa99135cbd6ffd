"""API keys of the server: keys, key files, rate limits, and the guard of a server without keys."""
