"""Classification of texts: without examples by the names of labels, or by a linear head on frozen vectors."""
