"""Benchmarks: Nearfield beside other engines on the same texts in one run."""
