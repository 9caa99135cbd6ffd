"""A map of texts: two dimensions, with the names of topics, as one HTML file."""
