"""Sounds: their formats, decoding, and silences."""
