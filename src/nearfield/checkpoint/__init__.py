"""Reads a Hugging Face folder: its recipe, modules, tokenizer and weights. Nothing read here can run code."""
