"""Benchmarks of Nearfield and other engines on the same texts in one run."""
