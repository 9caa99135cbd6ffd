"""The manifest of a collection: documents, chunks, keyword index and vector tables, in one SQLite file."""
