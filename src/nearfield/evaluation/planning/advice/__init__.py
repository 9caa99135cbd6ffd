"""Advice: which model, in which way, on which machine, with reasons and what speaks against it."""
