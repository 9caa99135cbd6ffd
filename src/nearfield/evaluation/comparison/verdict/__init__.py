"""The verdict of a comparison: which variant to take, how sure that is, and which items decide."""
