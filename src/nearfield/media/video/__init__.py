"""Videos: which of their frames a model reads, and the process that decodes them."""
