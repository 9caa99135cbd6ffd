"""Tokenizers of Hugging Face model folders: construction, truncation and text pairs."""
