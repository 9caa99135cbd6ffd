"""Several machines: shards encoded on a Ray cluster, and a router in front of several servers."""
