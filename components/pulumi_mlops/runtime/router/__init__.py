"""The proxy of a route: HAProxy, and what tells it about servers and weights."""
