"""File access shared by all packages: locks, atomic writes, tabular files, safe URLs."""
