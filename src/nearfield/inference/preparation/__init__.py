"""Preparation of inputs for the engine: from texts and token ids to the jobs of a ticket."""
