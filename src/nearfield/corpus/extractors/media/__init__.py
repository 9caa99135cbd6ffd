"""Media in collections: which files are pictures, sounds, videos and pages, and their segments, which become chunks."""
