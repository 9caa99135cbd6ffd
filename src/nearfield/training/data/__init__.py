"""Readers of training data, by the form in which people have them."""
