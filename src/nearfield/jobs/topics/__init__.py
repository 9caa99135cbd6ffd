"""Topics: clusters of texts with words for names, of which a new text joins the nearest."""
