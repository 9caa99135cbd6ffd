"""The Cohere API, versions 1 and 2."""
