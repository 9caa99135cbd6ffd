"""Fine-tuning with torch: one order of work, from reading the data to a written model that was measured twice."""
