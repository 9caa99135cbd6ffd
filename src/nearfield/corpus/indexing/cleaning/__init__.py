"""Cleaning: documents without invisible characters, boilerplate and page numbers."""
