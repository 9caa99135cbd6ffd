"""Copies of pictures and videos that differ in size, compression or colour, recognised by perceptual hashes."""
