"""Readers of Hugging Face model folders: recipe, modules, tokenizer and weights. None of them can run code."""
