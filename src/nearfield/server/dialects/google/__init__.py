"""Google's embedding APIs: Gemini's ``:embedContent`` and Vertex AI's ``:predict``."""
