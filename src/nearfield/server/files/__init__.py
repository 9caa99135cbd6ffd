"""Uploaded files of the OpenAI files API."""
