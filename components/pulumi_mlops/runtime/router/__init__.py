"""The proxy of a route: HAProxy, and the reconciler of its servers and weights."""
