"""Families of two-tower models: vision transformers, and the text towers that share a space with them."""
