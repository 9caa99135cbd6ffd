"""Queries that are more than one text: pictures, sounds, videos and chunks of the collection; ranks across kinds."""
