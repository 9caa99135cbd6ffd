"""Several HTTP processes in front of one engine."""
