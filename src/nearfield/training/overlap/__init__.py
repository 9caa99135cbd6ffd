"""Ways in which two sets of texts may overlap: equal, nearly equal, or the same in another language."""
