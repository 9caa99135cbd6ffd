"""The SIE API."""
