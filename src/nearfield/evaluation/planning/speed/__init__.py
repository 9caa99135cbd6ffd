"""Speed and memory of models before they are downloaded: measured on this machine, or estimated for another."""
