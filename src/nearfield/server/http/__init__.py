"""HTTP plumbing of the server: request handling, routing, bodies, responses, limits and the OpenAPI document."""
