"""Planning before anything runs: model choice, index size and cost."""
