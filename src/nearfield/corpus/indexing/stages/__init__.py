"""The stages of an index run, which tasks pass through in order."""
