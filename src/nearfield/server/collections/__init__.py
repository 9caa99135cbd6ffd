"""Collections behind the server: the service that HTTP routes use, and the MCP server."""
