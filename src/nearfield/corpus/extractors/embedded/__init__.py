"""Pictures inside Office files and books: their text, and their bytes with their places."""
