"""The web console: static pages that use the public HTTP API, and the routes that serve them."""
