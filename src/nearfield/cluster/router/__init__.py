"""``nearfield route``: one address for several servers, chosen request by request."""
