"""What a run leaves for people: report, curve, and the card of the model."""
