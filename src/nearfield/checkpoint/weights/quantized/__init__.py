"""Matrices of weights in int8 and int4: how they are quantised, and how files store them."""
