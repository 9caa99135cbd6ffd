"""``nearfield cluster serve``: the HTTP server on each node of a Ray cluster, in front of engines on any node."""
