"""The servers behind a router: their addresses, connections, health and load."""
