"""Decoders in child processes: a file that crashes one, or on which it hangs, fails alone."""
