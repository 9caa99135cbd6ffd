"""Copies among the files of a folder: pictures, videos and sounds."""
