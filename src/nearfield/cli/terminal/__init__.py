"""Terminal output of the commands: units, passages and paths."""
