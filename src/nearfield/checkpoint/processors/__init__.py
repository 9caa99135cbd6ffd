"""Processors: what a model folder says about preparing pictures and sounds, carried out."""
