"""Several machines: a router in front of several servers."""
